// What elements are made of, and the pages' own elements.

import type { SegueBlind } from "../static/shared/abx.js";
import type { SeguePlayer } from "../static/shared/player.js";
import type { SegueSlice } from "../static/service/slice.js";

type Handlers = {
  [Name in keyof GlobalEventHandlersEventMap as `on${Name}`]?: (
    event: GlobalEventHandlersEventMap[Name],
  ) => unknown;
};

/** Attributes and listeners of a new element. */
export interface Attributes extends Handlers {
  [name: string]: string | number | boolean | null | undefined | Handlers[keyof Handlers];
}

type Leaf = Node | string | false | null | undefined;

/** What may be put into a new element; arrays are spread. */
export type Child = Leaf | Leaf[];

declare global {
  // In browsers, not yet in TypeScript's library.
  interface FocusOptions {
    focusVisible?: boolean;
  }

  interface HTMLElementTagNameMap {
    "segue-blind": SegueBlind;
    "segue-player": SeguePlayer;
    "segue-slice": SegueSlice;
  }
}
