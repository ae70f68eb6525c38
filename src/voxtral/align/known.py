"""What is known of a loaded model's attention, and finding it out when somebody first wants to know.

Read next: `voxtral.align.calibrate`, which finds it out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from voxtral.align.alignment import Alignment, find_alignment
from voxtral.engine.options import EngineOptions
from voxtral.loading.checkpoint import Checkpoint, shared_fingerprint
from voxtral.switches import is_switched_off

if TYPE_CHECKING:
    from voxtral.align.calibrate import Voices
    from voxtral.engine.engine import Engine
    from voxtral.text.tokenizer import SpeechTokenizer
    from voxtral.types import SpeechRequest


class KnownAlignment:
    """The alignment of one checkpoint; safe to use from many threads.

    Args:
        checkpoint: opened.
        tokenizer: of the checkpoint.
        announce: gets lines for a person: of a file that cannot be used, and of a calibration.

    Attributes:
        announce: as given; may be replaced.
        may_calibrate: whether a request may make others wait for a calibration. A server's must not.
    """

    def __init__(self, checkpoint: Checkpoint, tokenizer: SpeechTokenizer, announce: Callable[[str], None]) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._lock = threading.Lock()
        self._found = find_alignment(
            checkpoint.folder, shared_fingerprint(checkpoint), checkpoint.config.backbone, announce
        )
        self.announce = announce
        self.may_calibrate = True

    @property
    def alignment(self) -> Alignment | None:
        """None while nothing is known, and where no head follows the text."""
        found = self._found
        return found if found is not None and found.has_aligner else None

    @property
    def reads_capitals(self) -> bool:
        """Whether the checkpoint reads words in capitals, as far as is known."""
        return self._found is None or self._found.reads_capitals

    @property
    def is_unknown(self) -> bool:
        """Whether nobody has found out yet."""
        return self._found is None

    def follow_text(self, options: EngineOptions) -> EngineOptions:
        """Let an engine measure what the heads of the alignment see of the text."""
        alignment = self.alignment
        return options if alignment is None else replace(options, text_heads=alignment.heads)

    def find_out(self, request: SpeechRequest, voices: Voices, engine: Engine) -> None:
        """Calibrate, if nothing is known and a request wants times or checks.

        Args:
            request: that wants them, or not.
            voices: of the checkpoint.
            engine: that speaks; it measures from then on.

        Raises:
            EngineError: the engine failed.
        """
        if self._found is not None or not (request.timestamps or request.verify != "off"):
            return
        if not self.may_calibrate or is_switched_off("calibration"):
            return
        # Here, because most models are known, and most requests do not ask.
        from voxtral.align.calibrate import Speaking, alignment_for
        from voxtral.align.thresholds import measure_thresholds

        with self._lock:
            if self._found is None:
                speaking = Speaking(self._checkpoint, self._tokenizer, voices, engine)
                found = alignment_for(speaking, self.announce, thresholds=measure_thresholds)
                if found.has_aligner:
                    engine.follow_text(found.heads)
                self._found = found
