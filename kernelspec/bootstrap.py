# The expression that brings `heddle_runtime` into a kernel.
#
# Heddle puts a JSON object {module name: source} in the place of the first
# name below and a function of `heddle_runtime` in that of the second, and sends
# the whole file as one of the `user_expressions` of a silent `execute_request`
# with empty code. The function is `start` in a kernel of Heddle's and `visit`
# in one that it has joined; the reply carries what that returns, as
# `application/json`. Sending it again, also from another Heddle, is answered by
# the runtime that is already there.
#
# An expression, because it binds no name in the user's namespace and leaves
# no trace in In, Out or the history. The builtins come from the frame of a
# generator, because the user may have bound `exec`, `sys` or `__import__` to
# something else. For the same reason later calls are written
#
#     (0 for _ in ()).gi_frame.f_builtins["__import__"]("heddle_runtime").variables()
#
# JSON strings are Python literals as long as characters beyond U+FFFF are not
# written as \u escapes (serde_json writes none).
(
    lambda builtins, sources: (
        lambda loader: (
            builtins["exec"](sources["heddle_runtime.loader"], loader),
            loader["install"](sources),
        )[1].__ENTRY__()
    )({"__name__": "heddle_runtime.loader", "__builtins__": builtins})
)((0 for _ in ()).gi_frame.f_builtins, __SOURCES__)
