"""How much better than its siblings a piece is: of the whole, and by time."""

from torch import Tensor, arange

from training import rewards

NEAR = 0.1  # of the pulse: so near to what is asked a prompt counts much by time


def better(reward: Tensor, siblings: int) -> Tensor:
    """How much better than its siblings each piece (B,) is, in standard deviations of all."""
    groups = reward.view(-1, siblings)
    return ((groups - groups.mean(1, keepdim=True)) / (reward.std() + 1e-6)).flatten()


def better_by_time(reward: Tensor, kept: Tensor, siblings: int, half_life: float) -> Tensor:
    """How much better than its siblings each piece goes on from each frame, (B, frames).

    Of what every frame adds to the pulse (B, frames), later ones counting half every `half_life`
    frames, and the pulse kept in the whole (B,): prompts whose continuations have about what is
    asked count most, since there a little more decides.
    """
    frame = arange(reward.shape[1], device=reward.device)
    age = frame[:, None] - frame  # of a reward (first), seen from a frame (second)
    coming = reward @ (0.5 ** (age.clamp_min(0) / half_life) * (age >= 0))
    groups = coming.unflatten(0, (-1, siblings))
    enough, _ = rewards.ASKED["pulse"]
    share = ((kept.view(-1, siblings).mean(1) - enough) / NEAR).sigmoid()
    apart = (groups - groups.mean(1, keepdim=True)) * (4 * share * (1 - share))[:, None, None]
    return (apart / (apart.square().mean().sqrt() + 1e-6)).flatten(0, 1)
