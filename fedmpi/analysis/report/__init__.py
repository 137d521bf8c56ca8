"""A page that shows runs: one HTML file which needs nothing else. ``fedmpi report``.

``collect`` makes plain data of traces (``content.Report``), ``page.html`` makes the page of that.
"""

from fedmpi.analysis.report.collecting import collect
from fedmpi.analysis.report.page import html

__all__ = ["collect", "html"]
