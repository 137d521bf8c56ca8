"""Where public data sets come from: those that can be fetched, and those that must be fetched by hand.

Checksums are SHA-256 of the files whose MD5 sums the authors of the data sets publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteFile:
    """One file; of a tar archive, ``members`` are the files that are kept, without their folders."""

    url: str
    sha256: str
    size_mb: float
    members: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True)
class PublicDataset:
    """A data set that is fetched; ``dataset`` is the value of ``[data] dataset`` that reads it."""

    title: str
    dataset: str
    files: tuple[RemoteFile, ...]


@dataclass(frozen=True)
class ManualDataset:
    """A data set whose owners ask for a registration, a licence or a program run; ``steps`` says what to do."""

    title: str
    dataset: str
    steps: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
_FASHION = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
_CIFAR_FOLDER = "cifar-10-batches-bin/"

PUBLIC: Mapping[str, PublicDataset] = {
    "mnist": PublicDataset(
        title="70,000 handwritten digits, 28 x 28 grey (LeCun, Cortes and Burges)",
        dataset="idx",
        files=(
            RemoteFile(
                _MNIST + "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                9.9,
            ),
            RemoteFile(
                _MNIST + "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
                0.03,
            ),
            RemoteFile(
                _MNIST + "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
                1.6,
            ),
            RemoteFile(
                _MNIST + "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
                0.005,
            ),
        ),
    ),
    "fashion-mnist": PublicDataset(
        title="70,000 articles of clothing, 28 x 28 grey (Xiao, Rasul and Vollgraf 2017)",
        dataset="idx",
        files=(
            RemoteFile(
                _FASHION + "train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                26.4,
            ),
            RemoteFile(
                _FASHION + "train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                0.03,
            ),
            RemoteFile(
                _FASHION + "t10k-images-idx3-ubyte.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                4.4,
            ),
            RemoteFile(
                _FASHION + "t10k-labels-idx1-ubyte.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                0.005,
            ),
        ),
    ),
    "cifar10": PublicDataset(
        title="60,000 colour images of 10 classes, 32 x 32 (Krizhevsky 2009)",
        dataset="cifar10",
        files=(
            RemoteFile(
                _CIFAR + "cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170.1,
                members=(
                    *(f"{_CIFAR_FOLDER}data_batch_{number}.bin" for number in range(1, 6)),
                    f"{_CIFAR_FOLDER}test_batch.bin",
                ),
            ),
        ),
    ),
}

MANUAL: Mapping[str, ManualDataset] = {
    "femnist": ManualDataset(
        title="handwritten characters of 62 classes by writer, 28 x 28 grey (LEAF, Caldas et al. 2018)",
        dataset="leaf",
        steps="""\
LEAF makes it from files of NIST with a program of its own:
1. git clone https://github.com/TalwalkarLab/leaf and enter its folder data/femnist.
2. ./preprocess.sh -s niid --sf 0.05 -k 0 -t sample     (the options of PruneFL's experiments)
3. Set path to the folder data/ that this makes; it holds train/ and test/ with *.json files.
PruneFL inverts the images: invert = true.""",
    ),
    "celeba": ManualDataset(
        title="202,599 faces of 10,177 celebrities with 40 attributes (Liu et al. 2015)",
        dataset="celeba",
        steps="""\
Its owners give it for non-commercial research: read their agreement first.
1. From https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html fetch img_align_celeba.zip, list_attr_celeba.txt and,
   for clients by celebrity, identity_CelebA.txt (the owners send it on request).
2. Unpack the images into the folder img_align_celeba, put the text files beside that folder, not into it.
3. Set path to the folder that holds all three, and attribute to the label, such as Smiling.""",
    ),
    "imagenet": ManualDataset(
        title="photographs of 1,000 classes, ILSVRC 2012 (Russakovsky et al. 2015)",
        dataset="imagenet",
        steps="""\
Its owners ask for a registration and their terms of access.
1. From https://image-net.org/download.php fetch ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and
   ILSVRC2012_devkit_t12.tar.gz.
2. Unpack the tar file of each class in the first into train/CLASS/ (such as train/n01440764/).
3. Sort the images of the second into val/CLASS/ by the ground truth in the third.
4. Set path to the folder that holds train/ and val/, and classes to how many of the sorted classes are
   taken (PruneFL: 100).""",
    ),
}
