def describe_namespace():
    return {"variables": [], "omitted": 0}
