"""From a clip to a stored voice, and what may be done with one: find, create, change, delete.

A dialect brings what its clients sent, and gives what it gets the shape that they read. Speaking with a voice is the
part of `voxtral.server.service`.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from voxtral.errors import LanguageError, VoiceNameTakenError, VoiceStoreFullError, VoiceUnknownError
from voxtral.server.body import Upload
from voxtral.server.errors import HttpError
from voxtral.server.keys import Client
from voxtral.server.model_host import LoadedModel, ModelCard
from voxtral.server.service import SpeechService, check_cloning
from voxtral.text.language import resolve_language
from voxtral.voices.facts import StoredVoice, VoiceFacts
from voxtral.voices.presets import VoiceInfo

_MIME_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,64}")


class VoiceService:
    """The one way from HTTP to the voices.

    Args:
        speech: whose model, threads and turns are used.
    """

    def __init__(self, speech: SpeechService) -> None:
        self._speech = speech

    async def list(self) -> tuple[tuple[VoiceInfo, ...], tuple[StoredVoice, ...]]:
        """Return the presets, and the voices that were added, the oldest first.

        Raises:
            HttpError: 503, nothing is known yet of the model.
        """
        _, book = await self._speech.host.describe()
        return book.presets, await self._speech.run(book.store.list)

    async def find(self, name_or_id: str) -> VoiceInfo | StoredVoice:
        """Find a preset or a stored voice.

        Raises:
            HttpError: 404, there is none of that name or id.
        """
        _, book = await self._speech.host.describe()
        voice = await self._speech.run(lambda: book.find(name_or_id))
        if voice is None:
            raise HttpError(
                404,
                "no voice has that name or id; GET /v1/audio/voices lists those that there are",
                code="voice_not_found",
                param="voice_id",
            )
        return voice

    async def find_stored(self, name_or_id: str) -> StoredVoice:
        """Find a voice that may be changed.

        Raises:
            HttpError: 404, there is none of that name or id; 403, it is a preset.
        """
        voice = await self.find(name_or_id)
        if isinstance(voice, VoiceInfo):
            raise HttpError(
                403,
                "this voice is a preset, which belongs to the checkpoint; only voices that were added can be changed "
                "or deleted",
                code="voice_is_preset",
                param="voice_id",
            )
        return voice

    async def create(self, clip: Upload, facts: VoiceFacts, client: Client) -> tuple[StoredVoice, list[str]]:
        """Make a voice and keep it; that takes a turn, because the engine does nothing else meanwhile.

        Args:
            clip: it is not kept.
            facts: what the client said of the voice; those of the clip are added.
            client: whose turn it is.

        Returns:
            The voice, and what the library warns of.

        Raises:
            HttpError: 403, cloning is switched off; 409, the name is taken, or there are too many voices; as
                `Admission.enter` and `ModelHost.use`.
            RequestError: the model makes no voices or does not speak the language, or the clip is of no use.
            VoiceStoreError: the folder of voices cannot be written.
        """
        self._speech.check_cloning_is_on()
        ticket = await self._speech.admission.enter(client)
        try:
            async with self._speech.host.use() as loaded:
                check_cloning(loaded)
                facts = replace(facts, language=_known_language(facts.language, loaded.card))
                with _with_status():
                    return await self._speech.run(lambda: _make(loaded, clip, facts))
        finally:
            ticket.give_back()

    async def change(
        self, voice_id: str, *, name: str | None, language: str | None, description: str | None
    ) -> StoredVoice:
        """Change what is given of a stored voice; empty texts clear.

        Raises:
            HttpError: 404, there is none with that id; 409, the name is taken.
            LanguageError: the model does not speak it.
            VoiceStoreError: the folder of voices cannot be written.
        """
        card, book = await self._speech.host.describe()
        known = None if language is None else _known_language(language, card)
        with _with_status():
            return await self._speech.run(
                lambda: book.change(voice_id, name=name, language=known, description=description)
            )

    async def delete(self, voice_id: str) -> None:
        """Delete a stored voice.

        Raises:
            HttpError: 404, there is none with that id.
            VoiceStoreError: the folder of voices cannot be written.
        """
        _, book = await self._speech.host.describe()
        with _with_status():
            await self._speech.run(lambda: book.store.delete(voice_id))


def _make(loaded: LoadedModel, clip: Upload, facts: VoiceFacts) -> tuple[StoredVoice, list[str]]:
    """Make and store a voice, in a thread; return what the library warns of, too."""
    loaded.voices.check_new(facts.name)  # before the work
    warnings: list[str] = []
    voice = loaded.tts.create_voice(clip.data, facts.name, warn=warnings.append)
    facts = replace(
        facts,
        mime_type=clip.content_type if _MIME_TYPE.fullmatch(clip.content_type) else "",
        file_size=len(clip.data),
        duration_s=round((voice.rows.shape[0] - 1) / loaded.tts.config.frame_rate, 2),
    )
    return loaded.voices.add(voice, facts), warnings


def _known_language(language: str, card: ModelCard) -> str:
    """Find the code of a language that the model speaks; nothing said stays so.

    Raises:
        LanguageError: it speaks another one.
    """
    if not language or language in card.languages:
        return language
    code = resolve_language(language)
    if code not in card.languages:
        raise LanguageError(
            f"the language {code} is not spoken by this checkpoint; it speaks {', '.join(card.languages)}; choose one"
        )
    return code


@contextmanager
def _with_status() -> Generator[None]:
    """Give errors of the store the status that they have here; the others mean 400."""
    try:
        yield
    except VoiceUnknownError as error:
        raise HttpError(404, str(error), code=error.code, param="voice_id") from error
    except (VoiceNameTakenError, VoiceStoreFullError) as error:
        raise HttpError(409, str(error), code=error.code, param="name") from error
