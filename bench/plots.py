def run(*a):
    yield from ()


def draw(x):
    return []
