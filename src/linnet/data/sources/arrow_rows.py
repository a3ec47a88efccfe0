"""Rows of parquet files, with the values that the same rows would have as JSON.

Arrow has more types than JSON: what JSON writes as text (times, dates) is read as text, decimals are
numbers, dictionaries and maps are what they stand for, an extension type is its storage, and the values of
`arrow.json` columns, in which datasets keeps objects of varying fields, are decoded. NaN is null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from linnet.config import RequestError
from linnet.data.sources.json_rows import DoubledName, NotJson, doubled, is_nan, twice, value_of
from linnet.data.sources.reading import Row, Seen
from linnet.data.sources.troubles import Damage, reason_of

if TYPE_CHECKING:
    import pyarrow

Change = Callable[[Any], Any]

_ROWS = 256  # that are decoded together
_JSON = "arrow.json"
_INTEGER_DIGITS = 18  # of a decimal that a 64-bit integer holds


def parquet_rows(
    opened: str | BinaryIO, size: int, where: str, row: int, fields: Sequence[str] | None, seen: Seen
) -> Iterator[Row]:
    """Rows of a parquet file from number `row` on, one row group after another; earlier groups are not read.

    Args:
        opened: a path, or the file open for reading.
        size: its bytes.
        where: the file, as people are told it.
        fields: the columns that are read; None for all.
        seen: called with every further byte.

    Raises:
        Damage: when it is no whole parquet file.
        RequestError: when a column is missing or is there twice, or a value cannot be read.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise RequestError("reading parquet needs pyarrow", where, "pip install 'linnet[data]'") from None
    try:
        # Column by column through one stream: a request for each would be answered more slowly than read.
        buffer = 1 << 20 if isinstance(opened, str) else 0
        with pyarrow.parquet.ParquetFile(opened, buffer_size=buffer, pre_buffer=False) as table:
            names = table.schema_arrow.names
            if name := twice(iter(names)):
                raise doubled(name, where)
            if missing := [name for name in fields or () if name not in names]:
                raise RequestError(
                    f"there is no column {missing[0]!r}",
                    where,
                    f"its columns are {', '.join(map(repr, names))}; set text_field",
                )
            total, number, told = table.metadata.num_rows, 0, 0
            for group in range(table.metadata.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                if number + rows <= row:
                    number += rows
                    continue
                for batch in table.iter_batches(_ROWS, row_groups=[group], columns=fields and list(fields)):
                    if number + batch.num_rows > row:
                        yield from _batch(batch, max(0, row - number), number, where)
                    number += batch.num_rows
                    seen(size * number // total - told)
                    told = size * number // total
            seen(size - told)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise Damage(
            f"this is not a whole parquet file ({reason_of(error)})", where, "get it again"
        ) from None


def _batch(batch: pyarrow.RecordBatch, first: int, number: int, where: str) -> Iterator[Row]:
    part = batch.slice(first)
    names = part.schema.names
    columns = [_values(column, field, where) for column, field in zip(part.columns, part.schema, strict=True)]
    for index, values in enumerate(zip(*columns, strict=True), number + first):
        yield index, dict(zip(names, values, strict=True)), f"{where}, row {index}"


def _values(column: pyarrow.Array, field: pyarrow.Field, where: str) -> list[Any]:
    """A column's values as JSON would have them."""
    place = f"{where}, column {field.name!r}"
    try:
        kind = _as_json(field.type)
        values: list[Any] = (column if kind == field.type else column.cast(kind)).to_pylist()
        change = _change(field)
        return values if change is None else [None if v is None else change(v) for v in values]
    except NotJson as error:
        raise RequestError(
            f"a value of this JSON column is not JSON ({error})", place, "write it again"
        ) from None
    except DoubledName as error:
        raise doubled(str(error), place) from None
    except UnicodeDecodeError:
        raise
    except (ValueError, OverflowError, NotImplementedError) as error:
        raise RequestError(
            f"its values ({field.type}) cannot be read ({reason_of(error)})",
            place,
            "write them as text or numbers",
        ) from None


def _as_json(kind: pyarrow.DataType) -> pyarrow.DataType:
    """The type to which a column is cast before it is read: the same where its values are those of JSON."""
    import pyarrow
    from pyarrow import types

    if isinstance(kind, pyarrow.BaseExtensionType):
        return _as_json(kind.storage_type)
    if types.is_temporal(kind) and not types.is_interval(kind):
        return pyarrow.string()
    if types.is_decimal(kind):
        whole = kind.scale <= 0 and kind.precision <= _INTEGER_DIGITS
        return pyarrow.int64() if whole else pyarrow.float64()
    if types.is_dictionary(kind):
        return _as_json(kind.value_type)
    if types.is_map(kind):
        return pyarrow.map_(_as_json(kind.key_type), _as_json(kind.item_type))
    if types.is_fixed_size_list(kind):
        return pyarrow.list_(_as_json(kind.value_type), kind.list_size)
    if types.is_large_list(kind):
        return pyarrow.large_list(_as_json(kind.value_type))
    if types.is_list(kind):
        return pyarrow.list_(_as_json(kind.value_type))
    if types.is_struct(kind):
        return pyarrow.struct([(field.name, _as_json(field.type)) for field in kind])
    return kind


def _change(field: pyarrow.Field) -> Change | None:
    """What makes a value read of a field (never None) one of JSON; None when it is that already."""
    from pyarrow import types

    kind = field.type
    # Before pyarrow 19 the extension is not known, and only the field says what its texts are.
    if (field.metadata or {}).get(b"ARROW:extension:name") == _JSON.encode():
        return value_of
    if getattr(kind, "extension_name", "") == _JSON:
        return value_of
    if types.is_floating(kind):
        return lambda value: None if is_nan(value) else value
    if types.is_map(kind):
        inner = _change(kind.item_field)
        return lambda pairs: {key: _changed(value, inner) for key, value in pairs}
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        inner = _change(kind.value_field)
        return None if inner is None else lambda values: [_changed(value, inner) for value in values]
    if types.is_struct(kind):
        changes = {part.name: change for part in kind if (change := _change(part))}
        return _in_struct(changes) if changes else None
    return None


def _changed(value: Any, change: Change | None) -> Any:
    return value if value is None or change is None else change(value)


def _in_struct(changes: dict[str, Change]) -> Change:
    return lambda value: {name: _changed(part, changes.get(name)) for name, part in value.items()}
