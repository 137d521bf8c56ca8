"""The words that say why a command failed, out of all that it printed.

MPI libraries wrap them in rulers, frames and stacks of internal functions, and say more than once that something
has ended. The forms are those of Open MPI 4 and 5 (PRRTE) and of MPICH 4 and 5 (Hydra).
"""

from __future__ import annotations

import re

_RULER = re.compile(r"^\s*[-=*]{20,}\s*$", re.MULTILINE)
_TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)", re.MULTILINE)
_OWN_LINE = re.compile(r"^fedmpi: (?!rank \d+ failed:$).*", re.MULTILINE)
_EXIT_STRING = re.compile(r"^YOUR APPLICATION TERMINATED WITH THE EXIT STRING: .*", re.MULTILINE)
_HYDRA_FRAME = re.compile(r"^\[(?:mpiexec|proxy)[^\]]*\] \w+ \([^()]*:\d+\): *(.+)", re.MULTILINE)
_PROGRAM_SAYS = re.compile(r"^[\w./-]+: ")
_ERROR_STACK = re.compile(
    r"^(?:Abort\(.*?\).*?: *)?(Fatal error in .*?),? *error stack:\n(?:\w+\(\d+\)\.*: *(.*)\n?)+",
    re.MULTILINE,
)
_SENTENCE_END = re.compile(r"(?<=[.!]) +(?=[A-Z])")
_OPTION = re.compile(r"(?<!\S)--(?!help)\w")


def failure_reason(output: str) -> str:
    """One line of ``output``, a failed command's, that says why it failed; "no message" where it said nothing.

    In this order: the exception of the last Python traceback, fedmpi's own last line, an MPI library's words
    (with the option that it advises, if any), the last line.
    """
    for pattern in (_TRACEBACK, _OWN_LINE):
        if found := pattern.findall(output):
            return str(found[-1]).strip()
    reason = _of_mpich(output) or _of_open_mpi(output)
    if not reason:
        lines = [line for line in output.splitlines() if line.strip() and not _RULER.match(line)]
        reason = lines[-1] if lines else "no message"
    return reason.strip()


def _of_mpich(output: str) -> str:
    """An error stack's head and innermost entry, the exit string of a killed rank, or the first frame of Hydra."""
    if stack := _ERROR_STACK.search(output):
        return f"{stack[1].strip()}: {stack[2].strip()}"
    if killed := _EXIT_STRING.search(output):
        return killed[0]
    frame = _HYDRA_FRAME.search(output)
    if frame is None:
        return ""
    before = (
        output[: frame.start()].strip().rpartition("\n")[2]
    )  # what Hydra started, such as ssh, failed first
    return before if _PROGRAM_SAYS.match(before) else frame[1]


def _of_open_mpi(output: str) -> str:
    """The first paragraph between rulers, and the last sentence that advises an option."""
    pieces = _RULER.split(output)
    if len(pieces) == 1:
        return ""
    if len(pieces) % 2:  # with a ruler before and one behind each message: what is outside is of others
        pieces = pieces[1::2]
    messages = [piece for piece in pieces if piece.strip()]
    if not messages:
        return ""
    message = next((one for one in messages if not one.lstrip().startswith("WARNING")), messages[0])
    paragraphs = [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", message.strip())]
    head = paragraphs.pop(0)
    if head.endswith(":") and paragraphs:
        head = f"{head} {paragraphs.pop(0)}"
    sentences = [sentence for paragraph in paragraphs for sentence in _SENTENCE_END.split(paragraph)]
    advice = [sentence for sentence in sentences if _OPTION.search(sentence)]
    return " ".join([head, *advice[-1:]])
