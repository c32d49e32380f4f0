"""Rows → Arrow columns of token ids and targets, one chunk at a time.

The tokenizer is a `tokenizers.Tokenizer`, which encodes a whole chunk on its own threads; that
beats a pool of processes and needs no `transformers`. Offsets cost time, so only the formats whose
targets are aligned with tokens ask for them.
"""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from muppet_zoo.arrow_columns import lists, numbers, offsets, texts
from muppet_zoo.errors import UsageError
from muppet_zoo.examples import Example, examples_of
from muppet_zoo.formats import Segments
from muppet_zoo.generation import Answer, Generation
from muppet_zoo.heads import Classification, MultipleChoice
from muppet_zoo.rows import Row, RowProblem
from muppet_zoo.spans import Span
from muppet_zoo.spec import TaskSpec
from muppet_zoo.targets import TOKEN

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILE = "tokenizer.json"
_THREAD = threading.local()


@dataclass(frozen=True, kw_only=True)
class TokenizerSource:
    """A tokenizer by what identifies it; it is loaded when first needed.

    digest: sha256 of tokenizer.json, so that a renamed folder rebuilds nothing.
    """

    name: str
    path: Path
    digest: str

    def load(self) -> Tokenizer:
        """A new tokenizer object. Truncation and padding are set on the object."""
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_file(str(self.path))
        except Exception as error:  # tokenizers raises bare Exception on malformed JSON
            raise UsageError(f"{self.path} cannot be read as a tokenizer: {error}") from error

    def of_thread(self) -> Tokenizer:
        """This thread's object, loaded once, with whatever truncation was set last.

        Loading takes as long as encoding a thousand short rows, and many splits are no longer.
        """
        loaded: dict[tuple[Path, str], Tokenizer] = vars(_THREAD).setdefault("loaded", {})
        key = (self.path, self.digest)
        if key not in loaded:
            loaded[key] = self.load()
        return loaded[key]

    @cached_property
    def vocab_size(self) -> int:
        """Number of token ids, added tokens included."""
        return int(self.of_thread().get_vocab_size(with_added_tokens=True))


def open_tokenizer(name_or_dir: str) -> TokenizerSource:
    """The tokenizer in a folder (its `tokenizer.json`), in a file, or of a model on the hub."""
    try:
        path = _tokenizer_file(name_or_dir)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        where = error.filename or name_or_dir
        raise UsageError(f"{where}: cannot be read: {error.strerror or error}") from None
    return TokenizerSource(name=name_or_dir, path=path, digest=digest)


def _tokenizer_file(name_or_dir: str) -> Path:
    path = Path(name_or_dir)
    if path.is_dir():
        path = path / TOKENIZER_FILE
    if not path.is_file():
        if Path(name_or_dir).exists() or name_or_dir.count("/") > 1 or name_or_dir[:1] in "./~":
            raise UsageError(
                f"no tokenizer.json in '{name_or_dir}'; give a folder that has one (save it with "
                f"AutoTokenizer.from_pretrained(…).save_pretrained(DIR)) or a model name on the hub"
            )
        path = _download(name_or_dir)
    return path


def _download(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name, TOKENIZER_FILE))
    except (HfHubHTTPError, LocalEntryNotFoundError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"'{name}' is no folder with a tokenizer.json, and it could not be fetched from the "
            f"hub: {reason}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class EncodedChunk:
    """One record batch and what was counted while making it.

    The batch has a record for each of `num_examples`, or several where a long context is cut into
    windows. lengths: (records,) tokens of each one's longest sequence. labels: how often each
    label occurs.
    num_truncated: sequences that lost tokens; num_targets_cut: targets lost with them.
    bad_rows: (source row, reason) of rows that could not be encoded and are not in the batch.
    """

    batch: pa.RecordBatch
    lengths: NDArray[np.uint32]
    labels: Counter[str]
    num_examples: int
    num_tokens: int
    num_truncated: int
    num_targets_cut: int
    bad_rows: tuple[tuple[int, str], ...]


class ExampleEncoder:
    """Encodes rows of one task with one tokenizer, in the thread that made it."""

    def __init__(self, spec: TaskSpec, tokenizer: TokenizerSource, max_tokens: int) -> None:
        self._spec = spec
        self._tokenizer = tokenizer.of_thread()
        special = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        if max_tokens <= special:
            raise UsageError(
                f"--max-tokens {max_tokens} leaves no room for text: the tokenizer adds {special} "
                f"special tokens to a pair"
            )
        if isinstance(spec.head, Generation):
            _check_answer_room(spec.head.max_target_tokens, self._tokenizer)
        self._max_tokens = max_tokens
        self.token_type = pa.uint16() if tokenizer.vocab_size <= 1 << 16 else pa.uint32()

    def encode(
        self, rows: Iterable[tuple[int, Row]], *, labelled: bool, every_window: bool = True
    ) -> EncodedChunk:
        """Encode (source row number, row) pairs; rows that cannot be encoded are listed.

        Without `every_window`, windows that training could not learn from are left out.
        """
        examples: list[Example] = []
        bad_rows: list[tuple[int, str]] = []
        for number, row in rows:
            try:
                examples += examples_of(self._spec, number, row, labelled=labelled)
            except RowProblem as problem:
                bad_rows.append((number, str(problem)))
        labels = Counter(
            key
            for example in examples
            if example.target is not None
            for key in self._spec.head.histogram_keys(example.target)
        )
        chunk = self.encode_examples(examples, every_window=every_window)
        return replace(chunk, labels=labels, bad_rows=tuple(bad_rows))

    def encode_examples(
        self, examples: Sequence[Example], *, every_window: bool = True
    ) -> EncodedChunk:
        """Encode examples that were made already; labels are not counted."""
        self._limit_tokens()  # other encoders of this thread have the same tokenizer
        encodings = self._tokenize([example.segments for example in examples])
        records = examples
        if isinstance(self._spec.head, Span):
            records, encodings = self._windows(self._spec.head, examples, encodings, every_window)
        return EncodedChunk(
            **self._columns(records, encodings),
            labels=Counter(),
            num_examples=len(examples),
            bad_rows=(),
        )

    def _limit_tokens(self) -> None:
        self._tokenizer.no_padding()
        if self._spec.head.type == Span.type:
            self._tokenizer.no_truncation()  # the context is cut into windows afterwards
        else:
            self._tokenizer.enable_truncation(self._max_tokens, strategy="longest_first")

    def _windows(
        self,
        head: Span,
        examples: Sequence[Example],
        encodings: Sequence[Any],
        every_window: bool,
    ) -> tuple[list[Example], list[Any]]:
        """Examples and encodings, one per window; an example's target is the window's number."""
        records, windows = [], []
        for example, encoding in zip(examples, encodings, strict=True):
            context = example.segments.sequences[0][1] or ""
            made = head.windows(
                example.target, context, encoding, self._max_tokens, every_window=every_window
            )
            records += [example._replace(target=number) for number in range(len(made))]
            windows += made
        return records, windows

    def _tokenize(self, segments: Sequence[Segments]) -> list[Any]:
        texts: list[Any]
        if segments and segments[0].words is not None:
            texts = [list(example.words or ()) for example in segments]
            return list(self._tokenizer.encode_batch(texts, is_pretokenized=True))
        texts = [
            first if second is None else (first, second)
            for example in segments
            for first, second in example.sequences
        ]
        if self._spec.head.level == TOKEN:  # targets need offsets or word ids
            return list(self._tokenizer.encode_batch(texts))
        return list(self._tokenizer.encode_batch_fast(texts))

    def _columns(self, records: Sequence[Example], encodings: Sequence[Any]) -> dict[str, Any]:
        """The fields of an `EncodedChunk` that come from token ids."""
        ids = [encoding.ids for encoding in encodings]
        lengths = np.fromiter(map(len, ids), np.uint32, len(ids))
        input_ids = self._id_lists(ids, lengths)
        second_start = numbers(self._second_starts(encodings, lengths), pa.int32())
        longest = lengths
        if self._spec.head.type == MultipleChoice.type:
            counts = np.array([len(record.segments.sequences) for record in records], np.int64)
            input_ids, second_start = lists(input_ids, counts), lists(second_start, counts)
            starts = offsets(counts)[:-1]
            longest = np.maximum.reduceat(lengths, starts) if len(starts) else lengths
        targets = self._spec.head.target_columns(self._targets(records), encodings, self.token_type)
        columns = {
            "row": numbers([record.row for record in records], pa.int64()),
            "input_ids": input_ids,
            "second_start": second_start,
            **targets.columns,
        }
        if isinstance(self._spec.head, Classification) and self._spec.head.group:
            columns["group"] = texts([record.group or "" for record in records], pa.string())
        return {
            "batch": pa.RecordBatch.from_pydict(columns),
            "lengths": longest,
            "num_tokens": int(lengths.sum()),
            "num_truncated": sum(1 for encoding in encodings if encoding.overflowing),
            "num_targets_cut": targets.num_cut,
        }

    def _id_lists(self, ids: Sequence[list[int]], lengths: NDArray[np.uint32]) -> pa.ListArray:
        flat = array("H" if self.token_type == pa.uint16() else "I")
        for sequence in ids:
            flat.fromlist(sequence)  # twice as fast as `extend`
        return lists(numbers(np.asarray(flat), self.token_type), lengths)

    def _second_starts(
        self, encodings: Sequence[Any], lengths: NDArray[np.uint32]
    ) -> NDArray[np.int32]:
        if self._spec.inputs.format in ("single", "tokens", "text_to_text"):
            return lengths.astype(np.int32)
        # Sequence ids, not type ids: RoBERTa's tokenizers give both segments type 0.
        starts = (
            ids.index(1) if 1 in ids else len(ids) for ids in (e.sequence_ids for e in encodings)
        )
        return np.fromiter(starts, np.int32, len(encodings))

    def _targets(self, examples: Sequence[Example]) -> list[Any]:
        targets = [example.target for example in examples]
        if isinstance(self._spec.head, Generation):
            return self._encode_answers(targets, self._spec.head.max_target_tokens)
        return targets

    def _encode_answers(
        self, targets: Sequence[str | None], max_tokens: int
    ) -> list[Answer | None]:
        self._tokenizer.enable_truncation(max_tokens)
        encoded = self._tokenizer.encode_batch_fast([target or "" for target in targets])
        return [
            None if text is None else Answer(text=text, encoding=encoding)
            for text, encoding in zip(targets, encoded, strict=True)
        ]


def _check_answer_room(max_target_tokens: int, tokenizer: Tokenizer) -> None:
    """`tokenizers` does not truncate at all to fewer tokens than it adds."""
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if max_target_tokens <= special:
        raise UsageError(
            f"max_target_tokens: {max_target_tokens} leaves no room for an answer: the tokenizer "
            f"adds {special} special tokens"
        )
