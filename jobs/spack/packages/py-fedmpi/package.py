"""A draft of fedmpi's Spack package, for a clone of the project:

    spack repo add jobs/spack
    spack install --add "py-fedmpi@0.2.0 ^mpich"        # after: spack develop --path "$PWD" py-fedmpi@0.2.0

No archive of fedmpi has a checksum here yet, hence ``spack develop``.
"""

from spack.package import *


class PyFedmpi(PythonPackage):
    """Federated learning on emulated edge devices, over MPI."""

    license("MIT")

    version("0.2.0")

    variant("analysis", default=True, description="Figures with matplotlib, pages with plotly")

    depends_on("python@3.11:", type=("build", "run"))
    depends_on("py-setuptools@68:", type="build")

    depends_on("mpi")
    depends_on("py-mpi4py@4.0:", type=("build", "run"))
    depends_on("py-torch@2.4:", type=("build", "run"))
    depends_on("py-numpy@1.26:", type=("build", "run"))
    depends_on("py-h5py@3.10:", type=("build", "run"))
    depends_on("py-pandas@2.1:", type=("build", "run"))
    depends_on("py-scikit-learn@1.3:", type=("build", "run"))
    depends_on("py-scipy@1.11:", type=("build", "run"))
    depends_on("py-safetensors@0.4:", type=("build", "run"))
    depends_on("py-tomli-w@1.0:", type=("build", "run"))
    depends_on("py-rich@13.0:", type=("build", "run"))
    depends_on("py-matplotlib@3.8:", type=("build", "run"), when="+analysis")
    depends_on("py-plotly@6.0:", type=("build", "run"), when="+analysis")
