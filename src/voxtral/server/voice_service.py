"""From a clip to a stored voice, and what may be done with one: find, create, search for, change, delete.

A dialect brings what its clients sent, and gives what it gets the shape that they read. Speaking with a voice is the
part of `voxtral.server.service`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

from voxtral.audio.reference import PreparedClip, read_reference
from voxtral.cloning.options import MAX_SEARCHED_S
from voxtral.errors import LanguageError, VoiceNameTakenError, VoiceStoreFullError, VoiceUnknownError
from voxtral.server.body import Upload
from voxtral.server.cloning import check_cloning_is_on, check_steps, choose_steps, encoder_problems
from voxtral.server.errors import HttpError
from voxtral.server.keys import Client
from voxtral.server.model_host import LoadedModel, ModelCard
from voxtral.server.service import SpeechService
from voxtral.server.voice_jobs import VoiceJob, VoiceOrder
from voxtral.text.language import resolve_language
from voxtral.voices.facts import VOICE_ID, StoredVoice, VoiceFacts
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

    async def find(self, name_or_id: str) -> VoiceInfo | StoredVoice | VoiceJob:
        """Find a preset, a stored voice, or one that is being made or could not be.

        Raises:
            HttpError: 404, there is none of that name or id.
        """
        _, book = await self._speech.host.describe()
        jobs = self._speech.jobs
        job = jobs.find(name_or_id)
        if job is not None and job.id == name_or_id:
            return job
        voice = await self._speech.run(lambda: book.find(name_or_id))
        if voice is None and job is not None:
            # It may have ended meanwhile.
            voice = job.stored or (None if job.ended.is_set() else job)
        voice = voice or jobs.find_failed(name_or_id)
        if voice is None:
            is_id = VOICE_ID.fullmatch(name_or_id)
            lost = (
                "; one that was being made is gone where it was cancelled or the server has been started anew since: "
                "upload its clip again"
            )
            raise HttpError(
                404,
                f"no voice has that name or id; GET /v1/audio/voices lists those that there are{lost if is_id else ''}",
                code="voice_not_found",
                param="voice_id",
            )
        return voice

    async def find_ready(self, name_or_id: str) -> VoiceInfo | StoredVoice:
        """Find a voice that may be spoken with.

        Raises:
            HttpError: 404, there is none of that name or id; 409, it is being made, or could not be.
        """
        voice = await self.find(name_or_id)
        if isinstance(voice, VoiceJob):
            if voice.error is not None:
                raise HttpError(
                    409,
                    "this voice could not be made; GET /v1/audio/voices/{id} tells why; upload its clip again",
                    code="voice_failed",
                    param="voice_id",
                )
            raise HttpError(
                409,
                "this voice is still being made; GET /v1/audio/voices/{id} tells how far it is; try again when it is "
                "ready, or cancel it with DELETE",
                code="voice_processing",
                param="voice_id",
            )
        return voice

    async def find_stored(self, name_or_id: str) -> StoredVoice:
        """Find a voice that may be changed.

        Raises:
            HttpError: 404, there is none of that name or id; 403, it is a preset; 409, it is not ready.
        """
        voice = await self.find_ready(name_or_id)
        return _no_preset(voice)

    async def find_deletable(self, name_or_id: str) -> StoredVoice | VoiceJob:
        """Find a voice that may be deleted, also while it is being made.

        Raises:
            HttpError: 404, there is none of that name or id; 403, it is a preset.
        """
        voice = await self.find(name_or_id)
        return voice if isinstance(voice, VoiceJob) else _no_preset(voice)

    async def create(self, clip: Upload, facts: VoiceFacts, client: Client) -> tuple[StoredVoice, list[str]]:
        """Make a voice and keep it; that takes a turn, because the engine does nothing else meanwhile.

        Args:
            clip: it is not kept.
            facts: what the client said of the voice; those of the clip are added.
            client: whose turn it is.

        Returns:
            The voice, and what the library warns of.

        Raises:
            HttpError: 403, cloning is switched off; 409, the name is taken, or there are too many voices; 500, the
                encoder cannot be used; as `Admission.enter` and `ModelHost.use`.
            RequestError: the model makes no voices or does not speak the language, or the clip is of no use.
            VoiceStoreError: the folder of voices cannot be written.
        """
        options = self._speech.options
        check_cloning_is_on(options)
        async with self._turn(client) as loaded:
            facts = replace(facts, language=_known_language(facts.language, loaded.card))
            with _with_status(), encoder_problems(loaded.card, options, "upload"):
                return await self._speech.run(lambda: _make(loaded, clip, facts))

    async def search(
        self, clip: Upload, facts: VoiceFacts, refine: bool | int, client: Client
    ) -> tuple[VoiceJob, list[str]]:
        """Check all that a voice is to be searched for with, and begin a job that makes it.

        Args:
            clip: it is not kept; what is taken of it is, until the job ends.
            facts: what the client said of the voice; those of the clip are added.
            refine: True, or the steps of the search.
            client: whose turn it is while the clip is looked at, and whose job.

        Returns:
            The job, and what the library warns of.

        Raises:
            HttpError: 403, cloning or searching is switched off; 400, there are too many steps; 409, the name is taken,
                or there are too many voices; 429, there is no room; as `Admission.enter` and `ModelHost.use`.
            RequestError: the model does not speak the language, or the clip is of no use.
        """
        options = self._speech.options
        check_cloning_is_on(options)
        check_steps(refine, options)
        with self._speech.jobs.place(client) as place:
            async with self._turn(client) as loaded:
                facts = replace(facts, language=_known_language(facts.language, loaded.card))
                with _with_status():
                    prepared, facts, voice_id = await self._speech.run(lambda: _prepare(loaded, clip, facts))
                steps = choose_steps(refine, options, has_encoder=loaded.tts.has_encoder)
                order = VoiceOrder(prepared, facts, steps, voice_id, loaded.voices.store.release)
                return place.begin(order), list(prepared.remarks)

    @asynccontextmanager
    async def _turn(self, client: Client) -> AsyncGenerator[LoadedModel]:
        """Wait for a turn and for the model."""
        ticket = await self._speech.admission.enter(client)
        try:
            async with self._speech.host.use() as loaded:
                yield loaded
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

    async def delete(self, voice: StoredVoice | VoiceJob) -> None:
        """Delete a stored voice, or cancel one that is being made; what could not be made is forgotten.

        Raises:
            HttpError: 404, there is none with that id any more.
            VoiceStoreError: the folder of voices cannot be written.
        """
        _, book = await self._speech.host.describe()
        if isinstance(voice, VoiceJob):
            stored = await self._speech.jobs.cancel(voice)
            self._speech.jobs.forget(voice)
            if stored is None:
                return
            voice = stored
        with _with_status():
            await self._speech.run(lambda: book.store.delete(voice.id))


def _no_preset(voice: VoiceInfo | StoredVoice) -> StoredVoice:
    """Refuse to change what belongs to the checkpoint.

    Raises:
        HttpError: 403.
    """
    if isinstance(voice, VoiceInfo):
        raise HttpError(
            403,
            "this voice is a preset, which belongs to the checkpoint; only voices that were added can be changed or "
            "deleted",
            code="voice_is_preset",
            param="voice_id",
        )
    return voice


def _make(loaded: LoadedModel, clip: Upload, facts: VoiceFacts) -> tuple[StoredVoice, list[str]]:
    """Make and store a voice, in a thread; return what the library warns of, too."""
    loaded.voices.check_new(facts.name)  # before the work
    warnings: list[str] = []
    voice = loaded.tts.create_voice(clip.data, facts.name, refine=False, warn=warnings.append)
    duration_s = (voice.rows.shape[0] - 1) / loaded.tts.config.frame_rate
    return loaded.voices.add(voice, _with_clip(facts, clip, duration_s)), warnings


def _prepare(loaded: LoadedModel, clip: Upload, facts: VoiceFacts) -> tuple[PreparedClip, VoiceFacts, str]:
    """Look at a clip and reserve a name, in a thread; return what is searched for, with the id that it will have."""
    loaded.voices.check_new(facts.name)  # before the work
    prepared = read_reference(clip.data, sample_rate=loaded.tts.sample_rate, max_s=MAX_SEARCHED_S)
    voice_id = loaded.voices.reserve(facts.name)
    return prepared, _with_clip(facts, clip, prepared.duration_s), voice_id


def _with_clip(facts: VoiceFacts, clip: Upload, duration_s: float) -> VoiceFacts:
    """Add what is kept of the clip."""
    return replace(
        facts,
        mime_type=clip.content_type if _MIME_TYPE.fullmatch(clip.content_type) else "",
        file_size=len(clip.data),
        duration_s=round(duration_s, 2),
    )


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
