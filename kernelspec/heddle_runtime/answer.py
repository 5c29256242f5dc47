"""The value that carries an answer to Heddle."""


class Answer:
    """JSON-shaped `data` that IPython's display formatter renders as such."""

    def __init__(self, data):
        self.data = data

    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"application/json": self.data}

    def __repr__(self):
        return "<answer to Heddle>"
