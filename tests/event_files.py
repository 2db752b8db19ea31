"""Reads the event files of TensorBoard, every checksum checked."""

import struct
from pathlib import Path

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event


def events(workdir: Path) -> list[list[Event]]:
    """The events of each file in the order of TensorBoard, both checksums of every record checked."""
    files = []
    for path in sorted((workdir / 'tensorboard').iterdir()):
        content, found = path.read_bytes(), []
        while content:
            length, length_crc = struct.unpack('<QI', content[:12])
            data, (data_crc,) = content[12 : 12 + length], struct.unpack('<I', content[12 + length : 16 + length])
            assert (length_crc, data_crc) == (masked_crc(content[:8]), masked_crc(data))
            found.append(Event.FromString(data))
            content = content[16 + length :]
        files.append(found)
    return files


def masked_crc(data: bytes) -> int:
    crc = int(crc32c(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def scalars(workdir: Path) -> list[tuple[int, str, float]]:
    return [
        (event.step, value.tag, value.simple_value)
        for file in events(workdir)
        for event in file
        for value in event.summary.value
        if value.WhichOneof('value') == 'simple_value'
    ]
