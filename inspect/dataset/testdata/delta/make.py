"""Writes the Parquet files of this folder with pyarrow (26.0.1 when they were
committed), in the delta encodings.

Row i of 300 holds a PNG of 8 x 8 pixels of grey 50 * (i % 5), row 7 none, and its
label i * i % 7 in three types.
"""
import struct
import zlib

import pyarrow as pa
import pyarrow.parquet as pq

ROWS = 300


def png(grey):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes([grey] * 8) for _ in range(8))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def label(i):
    return i * i % 7


images = [None if i == 7 else {"bytes": png(i % 5 * 50), "path": None if i % 3 else f"{i}.png"} for i in range(ROWS)]
table = pa.table({
    "image": pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
    "label": pa.array([label(i) for i in range(ROWS)], pa.int64()),
    "number": pa.array([label(i) for i in range(ROWS)], pa.int32()),
    "name": pa.array([f"class {label(i)}" for i in range(ROWS)], pa.string()),
})
for encoding in "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY":
    for version, codec in ("1.0", "snappy"), ("2.0", "zstd"), ("2.0", "none"):
        pq.write_table(table, f"{encoding.lower()}-{version[0]}-{codec}.parquet", use_dictionary=False, compression=codec,
                       data_page_version=version, data_page_size=4096, row_group_size=250, write_statistics=False,
                       column_encoding={"image.bytes": encoding, "image.path": encoding, "name": encoding,
                                        "label": "DELTA_BINARY_PACKED", "number": "DELTA_BINARY_PACKED"})
