"""EF21: clients send how their gradients differ from an estimate of them that the server shares.

Richtarik, Sokolov, Fatkhullin, "EF21: a new, simpler, theoretically better, and practically faster error feedback",
NeurIPS 2021 (arXiv 2106.05203), Algorithm 2; with partial participation as in Fatkhullin et al., "EF21 with bells &
whistles", arXiv 2110.03294.

Client i keeps an estimate g_i of its gradient, at first 0. From its present gradient, v, it sends c_i, the k largest
entries of v - g_i, and adds what was used to g_i. The server adds the mean of all c_i to g, and everyone steps by g, in
all coordinates. In the mean every client counts by its samples, those that sent nothing with zeros: so g stays the mean
of all g_i.
"""

from __future__ import annotations

from fedmpi.sparsification.codec import DENSE
from fedmpi.sparsification.interface import ServerMemory, SparseMethod
from fedmpi.sparsification.qsgd import all_of
from fedmpi.sparsification.unidirectional import select

METHOD = SparseMethod(
    summary="the k largest changes of a client's estimated gradient go up; the mean of all estimates comes down, dense",
    source="Richtarik, Sokolov, Fatkhullin, NeurIPS 2021 (arXiv 2106.05203)",
    one_k="whose server steps by an estimate of its own, so that no second k can be tried",
    select=select,
    at_most_k_down=False,
    codec_down=DENSE,
    memory="estimate",
    server=ServerMemory(all_of, estimate=True),
)
