"""One object of a JSON file whose values are checked as they are read.

Knows kinds and ranges of values, and nothing of what they mean. Read next: `voxtral.loading.params`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar, cast

from voxtral.errors import ConfigError, quoted
from voxtral.options import Option

Choice = TypeVar("Choice", bound=str)

# Of a list, and of each of them: far above any model of this family.
_MAX_NUMBERS, _MAX_NUMBER = 1000, 2**20


class Section:
    """One JSON object with its path, so that a message can name the key.

    Every method but `get` raises ConfigError where a value breaks the rule, naming path, key and value.

    Args:
        values: the object.
        path: where it stands in the file.
    """

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values = values
        self._path = path

    def get(self, key: str) -> Any:
        """Give a value as it stands; None where the key is absent."""
        return self._values.get(key)

    def section(self, key: str, *, optional: bool = False) -> Section:
        """Give an object inside this one; an empty one where an optional key is absent or null."""
        return Section(self.mapping(key, optional=optional), f"{self._path}: {key}")

    def mapping(self, key: str, *, optional: bool = True) -> Mapping[str, Any]:
        """Give an object as it stands; an empty one where an optional key is absent or null."""
        value = self._values.get(key)
        if value is None and optional:
            return {}
        if not isinstance(value, dict):
            raise ConfigError(
                f"{self._path}: {key} is {quoted(value)}; it must be an object; use the checkpoint's own file"
            )
        return cast(dict[str, Any], value)

    def refuse_others(self, keys: Collection[str]) -> None:
        """Refuse keys that are not among some; for objects of this project's own, in which all of them count."""
        others = sorted(set(self._values) - set(keys))
        if others:
            raise ConfigError(
                f"{self._path}: {quoted(others[0])} is no key; there are {', '.join(keys)}; use the params.json that "
                "came with the weights, or a newer voxtral-tts"
            )

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = 2**31) -> int:
        """Give a whole number in a range; without a default the key must be there."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ConfigError(
                f"{self._path}: {key} is {quoted(value)}; it must be a whole number from {minimum} to {maximum}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """Give a number above 0; without a default the key must be there."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise ConfigError(f"{self._path}: {key} is {quoted(value)}; it must be a number above 0")
        return float(value)

    def number_in(self, key: str, default: float, option: Option) -> float:
        """Give a number in the range of an option of speech; the default where the key is absent or null."""
        value = self._values.get(key)
        if value is None:
            return default
        low, high = option.low or 0.0, option.high or 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ConfigError(f"{self._path}: {key} is {quoted(value)}; it must be a number from {low:g} to {high:g}")
        return float(value) + 0.0  # no negative zero

    def choice(self, key: str, words: tuple[Choice, ...]) -> Choice:
        """Give one of some words."""
        value = self._values.get(key)
        if value not in words:
            raise ConfigError(f"{self._path}: {key} is {quoted(value)}; it must be {' or '.join(map(repr, words))}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """Give a truth value."""
        value = self._values.get(key, default)
        # Officially a null goes on as it is and counts as false, whatever the default.
        if value is None:
            return False
        if not isinstance(value, bool):
            raise ConfigError(f"{self._path}: {key} is {quoted(value)}; it must be true or false")
        return value

    def integers(self, key: str, default: str, *, minimum: int = 1) -> tuple[int, ...]:
        """Give the whole numbers of a text with commas between; the default where the key is absent or null."""
        value = self._values.get(key)
        text = default if value is None else value
        try:
            numbers = tuple(int(part) for part in str(text).split(","))
        except ValueError:
            numbers = ()
        if not 0 < len(numbers) <= _MAX_NUMBERS or min(numbers) < minimum or max(numbers) > _MAX_NUMBER:
            raise ConfigError(
                f"{self._path}: {key} is {quoted(text)}; it must be whole numbers of at least {minimum} with commas "
                "between"
            )
        return numbers
