from dataclasses import dataclass

import numpy as np

from fedmpi.sparsification import Entries, Message, SparseMethod, WireCodec, union_of

NO_TAIL = np.empty(0, np.float32)


@dataclass(frozen=True)
class Ternary:
    lossy = True

    def encode(self, indices, values, dimension, tail=NO_TAIL):
        magnitude = np.abs(values).mean(dtype=np.float32) if len(values) else np.float32(0)
        head = np.array([len(values)], np.int32).tobytes() + magnitude.tobytes()
        signs = np.packbits(values > 0).tobytes()
        data = head + indices.tobytes() + signs + tail.tobytes()
        arriving = np.where(values > 0, magnitude, -magnitude)
        return Message(np.frombuffer(data, np.uint8), arriving)

    def decode(self, data, dimension, tail_length=0, positions=None):
        sent = data.tobytes()
        count = int(np.frombuffer(sent, np.int32, 1)[0])
        magnitude = np.frombuffer(sent, np.float32, 1, offset=4)[0]
        indices = np.frombuffer(sent, np.int32, count, offset=8)
        signs = np.frombuffer(sent, np.uint8, -(-count // 8), offset=8 + 4 * count)
        positive = np.unpackbits(signs, count=count).astype(bool)
        tail = np.frombuffer(sent[len(sent) - 4 * tail_length :], np.float32)
        return Entries(indices, np.where(positive, magnitude, -magnitude), tail)

    def message_bytes(self, entries, dimension):
        return 8 + 4 * entries + -(-entries // 8)

    def bytes_by_dimension(self, entries, dimension):
        return float(self.message_bytes(entries, dimension)), 0.0


METHOD = SparseMethod(
    summary="the k largest entries as signs and one magnitude",
    select=lambda uploads, k: union_of(uploads),
    at_most_k_down=False,
    codec=Ternary(),
    codec_down=WireCodec("auto"),
)
