"""The agent's magics where they are not the agent's.

A cell that is the agent's never comes to the kernel: Heddle takes it by its
first line. What comes here was written elsewhere in a cell, or run by code,
and nothing that the kernel runs can ask the agent. So each says how it is to
be written.
"""

from .imports import harmless
from .namespace import interactive_shell

HOW = {
    "ask": "%%ask on the first line of a cell and the request below it, or %ask and the request as its only line",
    "fix": "%fix as the only line of a cell, after one that failed, or %%fix on its first line with a wish below it",
}


def refusal(name):
    """A magic that says how `name` is to be written, whatever its arguments."""
    from IPython.core.error import UsageError

    def magic(line, cell=None):
        raise UsageError(
            "%%%s is for the agent, which code cannot ask, and nothing was asked here. At the prompt of heddle "
            "attach, write /ask and the request. Where Heddle is the kernel of a notebook, write %s." % (name, HOW[name])
        )

    magic.__doc__ = "For the agent: %s." % HOW[name]
    return magic


@harmless
def take_questions(shell):
    """Let a request end with a question mark, with which IPython's help would take the line."""
    import tokenize

    from IPython.core.inputtransformer2 import EscapedCommand

    class Request(EscapedCommand):
        priority = 0  # before help

        @classmethod
        def find(cls, tokens_by_line):
            for line in tokens_by_line:
                tokens = [token for token in line if token.type not in (tokenize.INDENT, tokenize.DEDENT)]
                words = [token.string for token in tokens if token.string != "%"]
                # Help is still for `%ask?` alone.
                if tokens and tokens[0].string == "%" and words[0] in HOW and words[1:2] != ["?"]:
                    return cls(tokens[0].start)
            return None

        def transform(self, lines):
            if lines[self.start_line][self.start_col :].startswith("%%"):
                # What follows is the request.
                lines = lines[: self.start_line + 1]
            return super().transform(lines)

    transformers = shell.input_transformer_manager.token_transformers
    transformers[:] = [known for known in transformers if known.__name__ != Request.__name__] + [Request]


def explain():
    """Register them, where the kernel is IPython; calling it again is harmless."""
    shell = interactive_shell()
    if shell is None:
        return
    take_questions(shell)
    for name in HOW:
        magic = refusal(name)
        shell.register_magic_function(magic, "line_cell", name)
        # A line in the middle of a cell that begins with two signs is a line magic whose name begins with one.
        shell.register_magic_function(magic, "line", "%" + name)
