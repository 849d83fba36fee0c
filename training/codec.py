"""Trains the codec: `python -m training.codec --data DATA --state STATE --seconds 500`.

Three phases, each going on from the state that the one before left:
`plain`    encoder and decoder without codebooks, a minute: a good start for k-means;
`codes`    everything with codebooks, on the spectral losses: most of the time;
`polish`   the encoder and the codebooks stay, the decoder learns against discriminators. Codes no
           longer change, so that tokens and the language model stay valid however long it runs.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from training import dataset, state
from training.captured import captured, eager
from training.clock import Clock, cosine
from training.codec_model import Codec, CodecShape
from training.discriminator import Discriminators, discriminator_loss, generator_losses
from training.hearing import Hearing, unheard
from training.losses import SpectralLoss, si_sdr

WEIGHTS = {
    "mel": 1.0,
    "linear": 0.5,
    "wave": 0.03,
    "onsets": 0.0,
    "commitment": 0.05,
    "scale": 0.05,
    "hearing": 0.3,
    "judged": 0.03,
    "match": 0.1,
}
CROP = 16_384  # samples of each crop that the discriminators hear


class Trainer:
    """The codec, its optimizers and one step of each phase on crops (B, T) of the data."""

    def __init__(self, args: argparse.Namespace, data: Tensor, device: torch.device):
        self.device = device
        self.autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=device.type == "cuda", cache_enabled=False
        )
        self.bypass = args.bypass
        self.codec = Codec(CodecShape(filters=args.filters)).to(device)
        self.hearing = Hearing().to(device)
        # What the first codebook alone, and the first two together, say of what is heard.
        size = self.codec.shape.dim
        self.listeners = nn.ModuleList(nn.Linear(size, Hearing.size) for _ in range(2)).to(device)
        self.weights = {**WEIGHTS, **json.loads(args.weights)}
        self.spectral = SpectralLoss().to(device)
        self.crops = dataset.Crops(data, args.samples, args.batch)
        self.rate = torch.tensor(args.lr, device=device)
        self.optimizer = self._adam([*self.codec.parameters(), *self.listeners.parameters()])
        self.discriminators = Discriminators().to(device)
        self.discriminators.to(memory_format=torch.channels_last)
        self.judge_optimizer = self._adam(self.discriminators.parameters())

    def _adam(self, parameters) -> torch.optim.AdamW:
        return torch.optim.AdamW(
            parameters, self.rate, (0.8, 0.99), weight_decay=1e-3,
            capturable=self.device.type == "cuda", fused=self.device.type == "cuda",
        )  # fmt: skip

    def _latents(self, audio: Tensor) -> Tensor:
        with self.autocast:
            return self.codec.latents(audio).float()

    def _sound(self, latents: Tensor) -> Tensor:
        with self.autocast:
            return self.codec.sound(latents).float()

    def _distance(self, output: Tensor, audio: Tensor) -> tuple[Tensor, list[Tensor]]:
        mel, linear = self.spectral(output, audio)
        wave = ((output - audio).abs().sum(1) / (audio.abs().sum(1) + 1.0)).mean()
        weights = self.weights
        loss = weights["mel"] * mel + weights["linear"] * linear + weights["wave"] * wave
        if weights["onsets"]:
            loss = loss + weights["onsets"] * self.spectral.onsets(output, audio)
        return loss, [mel, linear, wave]

    def _scale(self, latents: Tensor) -> Tensor:
        """Holds the latents near unit variance; nothing else does, and activations would grow."""
        return self.weights["scale"] * latents.var().clamp_min(1e-6).log().square()

    def _update(self) -> Tensor:
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0, foreach=True)
        if self.device.type == "cuda":  # the fused optimizer skips a step whose norm is no number
            self.optimizer.found_inf = (~norm.isfinite()).float()
        self.optimizer.step()
        return norm

    def plain(self) -> Tensor:
        """One step without codebooks; figures: mel, linear, wave, gradient norm."""
        audio = self.crops()
        latents = self._latents(audio)
        loss, figures = self._distance(self._sound(latents), audio)
        (loss + self._scale(latents)).backward()
        return torch.stack([*figures, self._update()]).detach()

    def codes(self) -> Tensor:
        """One step with codebooks.

        Figures: mel, linear, wave, commitment, what the first codebook and the first two leave
        unheard, the latents' variance, gradient norm.
        """
        audio = self.crops()
        latents = self._latents(audio)
        found = self.codec.quantizer(latents, learn=True, bypass=self.bypass)
        loss, figures = self._distance(self._sound(found.latents), audio)
        heard = self.hearing(audio)
        missed = [
            unheard(listener(partial), heard)
            for listener, partial in zip(self.listeners, found.partial, strict=False)
        ]
        loss = loss + self._scale(latents) + self.weights["commitment"] * found.commitment
        (loss + self.weights["hearing"] * (missed[0] + 0.5 * missed[1])).backward()
        figures += [found.commitment, *missed, latents.var()]
        return torch.stack([*figures, self._update()]).detach()

    def polish(self) -> Tensor:
        """One step of discriminators and decoder; figures: mel, linear, wave, three losses.

        Where both of their weights are nothing, the decoder learns without discriminators.
        """
        audio = self.crops()
        with torch.no_grad():
            latents = self.codec.quantizer(self._latents(audio), learn=False).latents
        output = self._sound(latents)
        loss, figures = self._distance(output, audio)
        if not self.weights["judged"] + self.weights["match"]:
            loss.backward()
            return torch.stack([*figures, self._update()]).detach()

        # A crop of every clip, at one place drawn for the whole batch.
        start = torch.randint(audio.shape[1] - CROP + 1, (1,), device=self.device)
        place = start + torch.arange(CROP, device=self.device)
        real, fake = audio.index_select(1, place), output.index_select(1, place)
        with self.autocast:
            judged = discriminator_loss(
                self.discriminators(real), self.discriminators(fake.detach())
            )
        judged.backward()
        torch.nn.utils.clip_grad_norm_(self.discriminators.parameters(), 1.0, foreach=True)
        self.judge_optimizer.step()

        self.discriminators.requires_grad_(False)
        with self.autocast:
            with torch.no_grad():
                heard = self.discriminators(real)
            like, match = generator_losses(heard, self.discriminators(fake))
        self.discriminators.requires_grad_(True)
        (loss + self.weights["judged"] * like + self.weights["match"] * match).backward()
        self._update()
        return torch.stack([*figures, judged, like, match]).detach()

    @torch.no_grad()
    def fill_codebooks(self, batches: int) -> None:
        """K-means of every codebook on the latents of some batches."""
        found = [self._latents(self.crops()).squeeze(2) for _ in range(batches)]
        latents = torch.cat(found).permute(0, 2, 1).reshape(-1, found[0].shape[1])
        self.codec.quantizer.initialise(latents)

    @torch.no_grad()
    def judge(self, clips: Tensor) -> dict:
        """Held-out figures on clips (N, T) int16: mel distance, SI-SDR, share of entries used."""
        meter = SpectralLoss(long=False).to(self.device)
        mel, ratio, used = [], [], []
        for part in clips.split(8):
            audio = part.float() / 32768
            found = self.codec.quantizer(self._latents(audio), learn=False)
            output = self._sound(found.latents)
            mel.append(meter(output, audio)[0])
            ratio.append(si_sdr(output, audio))
            used.append(found.codes)
        codes = torch.cat([c.permute(1, 0, 2).flatten(1) for c in used], 1)
        shares = [len(book.unique()) / self.codec.shape.entries for book in codes]
        return {
            "mel": round(float(torch.stack(mel).mean()), 4),
            "si_sdr": round(float(torch.cat(ratio).median()), 2),
            "used": [round(share, 3) for share in shares],
        }


def train(trainer: Trainer, args: argparse.Namespace, facts: dict, clips: Tensor) -> None:
    """Runs one phase until its time is up, saving every `args.save_every` seconds."""
    phase: str = args.phase
    codec = trainer.codec
    if phase == "codes" and not facts.get("codebooks"):
        trainer.fill_codebooks(args.fill_batches)
        facts["codebooks"] = True
    codec.encoder.requires_grad_(phase != "polish")
    chosen: Callable[[], Tensor] = getattr(trainer, phase)
    trainer.rate.fill_(1e-5)  # the optimizers' averages fill up during warm-up
    optimizers = [trainer.optimizer, trainer.judge_optimizer]
    step = (eager if args.eager else captured)(chosen, optimizers)
    clock, steps, saved = Clock(args.seconds), 0, 0.0
    while clock.done < 1:
        ramp = min(1.0, (steps + 1) / args.ramp)
        trainer.rate.fill_(ramp * cosine(args.lr, args.lr_end, clock.done))
        for _ in range(args.burst):
            figures = step()
        steps += args.burst
        if steps % (args.burst * 10) == 0:
            shown = " ".join(f"{value:.4f}" for value in figures.tolist())
            pace = 1000 * clock.elapsed / steps
            assert figures.isfinite().all(), f"step {steps}: {shown}"
            print(f"{phase} {steps} {clock.elapsed:.0f} s {pace:.1f} ms {shown}", flush=True)
        if clock.elapsed - saved > args.save_every or clock.done >= 1:
            saved = clock.elapsed
            now = {**facts, "steps": {**facts.get("steps", {})}}
            now["steps"][phase] = now["steps"].get(phase, 0) + steps
            now["seconds"] = {**facts.get("seconds", {})}
            now["seconds"][phase] = round(now["seconds"].get(phase, 0) + clock.elapsed)
            now["heldout"] = trainer.judge(clips)
            now["filters"] = codec.shape.filters
            print(now, flush=True)
            state.save(args.state, "codec", codec.state_dict(), now, torch.float32)
            if phase == "polish" and trainer.weights["judged"]:
                judges = trainer.discriminators.state_dict()
                state.save(args.state, "discriminators", judges, {}, torch.float32)


def main() -> None:
    """Reads the options, the state and the data; trains one phase."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--phase", choices=("plain", "codes", "polish"), required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--shards", type=int, default=36, help="of audio to train on, 20 min each")
    parser.add_argument("--filters", type=int, default=20)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=32_000, help="length of a crop")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--lr-end", type=float, default=5e-4)
    parser.add_argument("--ramp", type=int, default=200, help="steps of rising learning rate")
    parser.add_argument("--burst", type=int, default=20, help="steps between looks at the clock")
    parser.add_argument("--fill-batches", type=int, default=40)
    parser.add_argument("--save-every", type=float, default=90.0)
    parser.add_argument("--weights", default="{}", help="JSON over the weights of the losses")
    parser.add_argument("--bypass", type=float, default=0.25, help="rows without codebooks")
    parser.add_argument("--eager", action="store_true", help="launch every operation by itself")
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    data = dataset.load(dataset.shards(args.data, "train", args.shards), device)
    heldout = dataset.load(dataset.shards(args.data, "heldout", 1), device)
    clips = heldout[:64, 320_000:640_000]
    tensors, facts = state.load(args.state, "codec")
    facts.pop("parts", None)
    torch.manual_seed(sum(facts.get("steps", {}).values()))  # other crops than the run before
    trainer = Trainer(args, data, device)
    if tensors:
        trainer.codec.load_state_dict(tensors)
    judges, _ = state.load(args.state, "discriminators")
    if judges:
        trainer.discriminators.load_state_dict(judges)
    if args.profile:
        profile(trainer, args)
    train(trainer, args, facts, clips)


def profile(trainer: Trainer, args: argparse.Namespace) -> None:
    """Prints the kernels that take most of the time of one phase's step (GPU only)."""
    trainer.rate.fill_(0.0)
    if args.phase == "codes":
        trainer.fill_codebooks(args.fill_batches)
    for _ in range(3):
        getattr(trainer, args.phase)()
    with torch.profiler.profile() as found:
        for _ in range(3):
            getattr(trainer, args.phase)()
        torch.cuda.synchronize()
    events = sorted(found.key_averages(), key=lambda event: -event.self_device_time_total)
    for event in events[:25]:
        spent = event.self_device_time_total / 3000
        print(f"{spent:8.2f} ms {event.count // 3:5d} {event.key[:110]}")


if __name__ == "__main__":
    main()
