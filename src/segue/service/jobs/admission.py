"""Room for jobs: who reserves it before a request is read has it until the job is queued."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..clients import ANYONE, Client
from ..exceptions import BusyError
from ..settings import Settings


@dataclass(frozen=True)
class Load:
    """What the queue holds.

    Attributes:
        queued: jobs that wait.
        audio_bytes: of the audio of all jobs that wait or run.
        seconds: until all of them are done, about.
    """

    queued: int
    audio_bytes: int
    seconds: float


@dataclass(eq=False)
class Reservation:
    """Room for one job.

    Attributes:
        client: whose it is.
        audio_bytes: of its audio, once that is known.
    """

    admission: Admission = field(repr=False)
    client: Client = ANYONE
    audio_bytes: int = 0

    def hold(self, audio_bytes: int) -> None:
        """Reserve room for the job's audio, too.

        Raises:
            BusyError: the queue holds so much audio that there is none.
        """
        self.admission.check_bytes(audio_bytes)
        self.audio_bytes = audio_bytes


class Admission:
    """Decides, once for each request, whether there is room for another job.

    Args:
        settings: whose limits hold.
        load: finds out what the queue holds.
        check: finds out whether a client may have another job beside those that it has reserved
            room for; see `ClientLimits.check`.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Load],
        check: Callable[[Client, int], object] = lambda client, reserved: None,
    ) -> None:
        self._most, self._most_bytes = settings.limits.waiting, settings.max_disk_bytes
        self._load, self._check = load, check
        self._reserved: set[Reservation] = set()

    @contextmanager
    def reserve(self, client: Client = ANYONE) -> Iterator[Reservation]:
        """Reserve room for a job, until it is queued or refused.

        Args:
            client: whose it is.

        Raises:
            BusyError: the queue is full.
            OverLimitError: the client has as much as it may.
        """
        load = self._load()
        queued = load.queued + len(self._reserved)
        if queued >= self._most:
            raise self.full(queued)
        self._check(client, sum(each.client.name == client.name for each in self._reserved))
        reservation = Reservation(self, client)
        self._reserved.add(reservation)
        try:
            yield reservation
        finally:
            self.release(reservation)

    def full(self, waiting: int) -> BusyError:
        """The answer to a request where so many wait already."""
        return BusyError(
            f"segue is busy: {waiting} requests are waiting already; try again in a while",
            self._load().seconds,
        )

    def check_bytes(self, audio_bytes: int) -> None:
        """Find out whether there is room for so much audio more.

        Raises:
            BusyError: there is not.
        """
        load = self._load()
        reserved = sum(other.audio_bytes for other in self._reserved)
        if load.audio_bytes + reserved + audio_bytes > self._most_bytes:
            raise BusyError(
                "segue has no room for more audio until requests before this one are done; "
                "try again in a while",
                load.seconds,
            )

    def release(self, reservation: Reservation) -> None:
        """End a reservation: its job counts itself now, or does not come."""
        self._reserved.discard(reservation)
