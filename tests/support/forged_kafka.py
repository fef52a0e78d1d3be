"""Records that Python's client cannot make: names of headers that are no UTF-8. librdkafka, which is in it, can."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from confluent_kafka import cimpl

TOPIC, PARTITION, VALUE, KEY, MSGFLAGS, HEADERS = 1, 3, 4, 5, 7, 10
COPY = 2
PRODUCER = 0


class _Memory(ctypes.Structure):
    _fields_ = (("pointer", ctypes.c_char_p), ("size", ctypes.c_size_t))


class _Union(ctypes.Union):
    _fields_ = (
        ("text", ctypes.c_char_p),
        ("number", ctypes.c_int32),
        ("pointer", ctypes.c_void_p),
        ("memory", _Memory),
        ("pad", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("u", _Union))


def produce(bootstrap: str, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Returns when the broker has acknowledged the record."""
    lib = ctypes.CDLL(cimpl.__file__)
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new", "rd_kafka_produceva"):
        getattr(lib, name).restype = ctypes.c_void_p
    conf = ctypes.c_void_p(lib.rd_kafka_conf_new())
    error = ctypes.create_string_buffer(512)
    lib.rd_kafka_conf_set(conf, b"bootstrap.servers", bootstrap.encode(), error, len(error))
    producer = ctypes.c_void_p(lib.rd_kafka_new(PRODUCER, conf, error, ctypes.c_size_t(len(error))))
    assert producer, error.value
    made = ctypes.c_void_p(lib.rd_kafka_headers_new(ctypes.c_size_t(len(headers))))
    for name_bytes, content in headers:
        sizes = [ctypes.c_ssize_t(len(each)) for each in (name_bytes, content)]
        lib.rd_kafka_header_add(made, name_bytes, sizes[0], content, sizes[1])
    arguments = (_Argument * 5)(
        _Argument(TOPIC, _Union(text=topic.encode())),
        _Argument(VALUE, _Union(memory=_Memory(value, len(value)))),
        _Argument(KEY, _Union(memory=_Memory(key, len(key)))),
        _Argument(MSGFLAGS, _Union(number=COPY)),
        _Argument(HEADERS, _Union(pointer=made.value)),
    )
    refused = lib.rd_kafka_produceva(producer, arguments, ctypes.c_size_t(len(arguments)))
    assert not refused
    assert lib.rd_kafka_flush(producer, 20_000) == 0
    lib.rd_kafka_destroy(producer)
