// @ts-check
// Which take goes on from which: a tree of takes, each with what made it.

import { titleOf } from "./job_about.js";
import { parametersLine } from "./take_row.js";
import { h } from "../shared/dom.js";
import { exactClock } from "../shared/time.js";

/** @import { TakeAnswer } from "../../types/service.js" */
/** @import { JobCard } from "./job_card.js" */

/** @typedef {ReturnType<typeof takeTree>} TakeTree */

/**
 * A list in lists, there as soon as one take goes on from another.
 *
 * @param {(card: JobCard, take: number) => void} select
 */
export function takeTree(select) {
  const list = h("ul");
  const element = h(
    "nav",
    { class: "tree", "aria-label": "Tree of takes", hidden: true },
    h("h3", {}, "What goes on from what"),
    list,
  );

  /**
   * @param {JobCard[]} cards
   * @param {JobCard} card
   * @param {TakeAnswer} take
   * @returns {HTMLElement}
   */
  const node = (cards, card, take) => {
    const children = cards.filter(
      ({ about: { parent } }) => parent?.job === card.id && parent.take === take.number,
    );
    const { parent, file } = card.about;
    const line = parametersLine(card, take).filter(Boolean).join(", ");
    const name = take.name || (parent ? titleOf(card.job) : file);
    const onclick = () => select(card, take.number);
    const from = parent && h("span", { class: "note" }, `from ${exactClock(parent.until_seconds)} on`);
    const label = h("button", { type: "button", class: "quiet", onclick }, name, h("small", {}, line));
    const below = children.flatMap((child) =>
      child.job.takes.map((one) => node(cards, child, one)),
    );
    return h("li", {}, take.starred && "★ ", label, from, below.length > 0 && h("ul", {}, below));
  };

  return Object.assign(element, {
    /** @param {JobCard[]} cards  of finished jobs */
    show(cards) {
      const ids = new Set(cards.map((card) => card.id));
      const chained = cards.filter(({ about: { parent } }) => parent && ids.has(parent.job));
      element.hidden = !chained.length;
      // Takes that nothing goes on from, and that go on from none, are below anyway.
      const roots = cards.filter((card) => {
        const { parent } = card.about;
        const goesOn = chained.some(({ about }) => about.parent?.job === card.id);
        return goesOn && !(parent && ids.has(parent.job));
      });
      list.replaceChildren(
        ...roots.flatMap((card) => card.job.takes.map((take) => node(cards, card, take))),
      );
    },
  });
}
