"""The models and data sets of fedmpi's own by name; a module, and torch with it, is imported when one is used."""

MODELS = {
    "mlp": "fedmpi.learning.models.mlp:mlp",
    "logistic": "fedmpi.learning.models.mlp:logistic",
    "cnn": "fedmpi.learning.models.cnn:cnn",
    "conv2": "fedmpi.learning.models.conv2:conv2",
    "conv4": "fedmpi.learning.models.conv4:conv4",
    "vgg11": "fedmpi.learning.models.vgg11:vgg11",
    "resnet18": "fedmpi.learning.models.resnet18:resnet18",
}
"""Functions of a sample's shape (C, H, W) and the number of classes; a parameter that is a key of ``[model]`` gets its
value."""

DATASETS = {
    "digits": "fedmpi.learning.datasets.digits:load_digits",
    "idx": "fedmpi.learning.datasets.idx:load_idx",
    "leaf": "fedmpi.learning.datasets.leaf:load_leaf",
    "cifar10": "fedmpi.learning.datasets.cifar10:load_cifar10",
    "celeba": "fedmpi.learning.datasets.celeba:load_celeba",
    "imagenet": "fedmpi.learning.datasets.imagenet:load_imagenet",
}
"""Functions of a folder that give a ``Dataset``; a parameter that is a key of ``[data]`` gets its value."""
