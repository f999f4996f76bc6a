"""What a Responses provider must get back unchanged, in and out of a chat message's own fields.

With `store: false` the provider keeps nothing, so the client carries its state: encrypted
reasoning, and the items of tools that ran at the provider. Both travel as lists that concatenate:

- `reasoning_details`, OpenRouter's public form. One reasoning item gives an entry for each summary
  (`reasoning.summary`), each piece of plain text (`reasoning.text`, open-weight models) and for its
  secret (`reasoning.encrypted`), all with the item's `id`;
- `output_items`: `{"format", "index", "item"}` for every other item that is neither text nor a
  call for the client.

`index` counts all entries *and* the text and call items between them, so that the order in which
the model wrote can be had again: reasoning must stand before the item that it led to. OpenAI
answers 400 to reasoning that nothing follows; such an item is not sent back. What has another
`format` is another provider's and is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

REASONING_KEY: Final = "reasoning_details"
ITEMS_KEY: Final = "output_items"


def reasoning_entries(
    item: Mapping[str, Any], format_name: str, first_index: int
) -> list[dict[str, Any]]:
    """The entries of a finished reasoning item; none when there is nothing to send back."""
    secret = item.get("encrypted_content")
    has_secret = isinstance(secret, str) and secret
    texts = _texts_of(item.get("content"))
    if not has_secret and not texts:
        return []
    summaries = _texts_of(item.get("summary"))
    entries: list[dict[str, Any]] = [
        *({"type": "reasoning.summary", "summary": text} for text in summaries),
        *({"type": "reasoning.text", "text": text} for text in texts),
    ]
    if has_secret:
        entries.append({"type": "reasoning.encrypted", "data": secret})
    item_id = item.get("id")
    for index, entry in enumerate(entries, first_index):
        if isinstance(item_id, str) and item_id:
            entry["id"] = item_id
        entry["format"] = format_name
        entry["index"] = index
    return entries


def opaque_entry(item: Mapping[str, Any], format_name: str, index: int) -> dict[str, Any]:
    """The entry of a finished item that we do not read."""
    return {"format": format_name, "index": index, "item": item}


def with_state(
    own_items: Sequence[dict[str, Any]], extra: Mapping[str, Any], format_name: str
) -> list[dict[str, Any]]:
    """The items of an assistant's turn with its state in their places.

    Args:
        own_items: the message and its calls, in order.
        extra: the message's opaque fields; malformed ones are ignored.
    """
    placed = [*_reasoning_items(extra, format_name), *_opaque_items(extra, format_name)]
    placed.sort(key=lambda one: one[0])
    # Several messages of one turn have become one: where reasoning comes last, something of the
    # turn stays behind it.
    kept_back = 1 if placed and placed[-1][2].get("type") == "reasoning" else 0
    found: list[dict[str, Any]] = []
    rest = list(reversed(own_items))
    index = 0
    for at, width, item in placed:
        while index < at and len(rest) > kept_back:
            found.append(rest.pop())
            index += 1
        found.append(item)
        index = at + width
    found += reversed(rest)
    while found and found[-1].get("type") == "reasoning":
        found.pop()
    return found


_Placed = tuple[int, int, dict[str, Any]]
"""Index, how many indices it takes up, and the item."""


def _reasoning_items(extra: Mapping[str, Any], format_name: str) -> list[_Placed]:
    groups: list[_Reasoning] = []
    for entry in _entries(extra, REASONING_KEY, format_name):
        item_id = entry.get("id")
        item_id = item_id if isinstance(item_id, str) else ""
        if not groups or groups[-1].is_closed_to(item_id):
            groups.append(_Reasoning(_index_of(entry)))
        groups[-1].add(item_id, entry)
    return [
        (group.index, group.width, group.to_item()) for group in groups if group.can_be_sent_back
    ]


class _Reasoning:
    """Entries of one reasoning item."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.width = 0
        self._id = ""
        self._secret = ""
        self._summaries: list[str] = []
        self._texts: list[str] = []

    def is_closed_to(self, item_id: str) -> bool:
        """Whether an entry with this id begins another item; the secret is an item's last."""
        return bool(self._secret or (item_id and self._id and item_id != self._id))

    def add(self, item_id: str, entry: Mapping[str, Any]) -> None:
        self._id = self._id or item_id
        self.width += 1
        match entry:
            case {"type": "reasoning.summary", "summary": str(text)}:
                self._summaries.append(text)
            case {"type": "reasoning.text", "text": str(text)}:
                self._texts.append(text)
            case {"type": "reasoning.encrypted", "data": str(data)}:
                self._secret = data
            case _:
                pass

    @property
    def can_be_sent_back(self) -> bool:
        """Without its secret or its text the provider would look the item up, and find nothing."""
        return bool(self._secret or self._texts)

    def to_item(self) -> dict[str, Any]:
        item: dict[str, Any] = {"type": "reasoning"}
        if self._id:
            item["id"] = self._id
        item["summary"] = [{"type": "summary_text", "text": text} for text in self._summaries]
        if self._texts:
            item["content"] = [{"type": "reasoning_text", "text": text} for text in self._texts]
        if self._secret:
            item["encrypted_content"] = self._secret
        return item


def _opaque_items(extra: Mapping[str, Any], format_name: str) -> list[_Placed]:
    return [
        (_index_of(entry), 1, entry["item"])
        for entry in _entries(extra, ITEMS_KEY, format_name)
        if isinstance(entry.get("item"), dict)
    ]


def _entries(extra: Mapping[str, Any], key: str, format_name: str) -> list[Mapping[str, Any]]:
    """This provider's entries in a message's field."""
    value = extra.get(key)
    if not isinstance(value, list):
        return []
    return [one for one in value if isinstance(one, dict) and one.get("format") == format_name]


def _index_of(entry: Mapping[str, Any]) -> int:
    index = entry.get("index")
    return index if type(index) is int else 0


def _texts_of(parts: object) -> list[str]:
    if not isinstance(parts, list):
        return []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return [text for text in texts if isinstance(text, str)]
