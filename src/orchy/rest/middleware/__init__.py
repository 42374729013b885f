"""What every request passes before any route sees it, the fast path of starts included; from the outside to the inside:

* `guard`: whether it is let in, by its head alone. The HTTP server asks it before it reads the body.
* `metrics`: its answer is counted and timed.
* `errors`: what is raised inside becomes an answer.
"""
