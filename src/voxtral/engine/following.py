"""What the engine asks of whoever follows a text while it is spoken. No torch.

The engine measures for each frame where the model looks in its text, and shows it to the request's follower, which
decides whether the speech may go on or end. `voxtral.align.follow` has the one that people get.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Decision = Literal["keep", "wait", "again", "end", "over", "lost"]
"""What becomes of the frame that was just made:

"keep": it is speech, and so are those that waited for a decision.
"wait": it is kept back until it is known whether it is.
"again": END_AUDIO is not believed; the same frame is made without that choice.
"end": END_AUDIO is believed, and what waited is speech.
"over": the text has been said; what waited is dropped, and that is the end.
"lost": the model has lost its place; what waited is dropped, and the rest of the text has to be spoken otherwise.
"""


class TextFollower(Protocol):
    """Follows one sequence through its text; on the engine's thread. Used for one sequence, and once."""

    def see(self, weights: npt.NDArray[np.float32]) -> None:
        """Take what a frame saw of the text.

        Args:
            weights: [n], over the text's tokens, adding up to 1.
        """
        ...

    def decide(self, *, says_end: bool) -> Decision:
        """Decide about the frame that was seen last.

        Args:
            says_end: whether the model chose END_AUDIO for it.
        """
        ...
