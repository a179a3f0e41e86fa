"""The ``animate`` job as functions: a photo and a recording go in, a video, a report and a plot come out.

request = Request(image="me.jpg", audio="hello.wav", out="hello.mp4", compare=True)
result = animate(request)
print(result.report["speedup"])
"""

from typing import TYPE_CHECKING

from ..lazily import exports

if TYPE_CHECKING:
    from .job import Result, animate
    from .request import Outputs, Request
    from .scene import Scene, prepare
    from .take import Progress, Take, shoot

__all__ = ["Outputs", "Progress", "Request", "Result", "Scene", "Take", "animate", "prepare", "shoot"]

__getattr__, __dir__ = exports(
    __name__,
    {
        **dict.fromkeys(("Result", "animate"), "job"),
        **dict.fromkeys(("Outputs", "Request"), "request"),
        **dict.fromkeys(("Scene", "prepare"), "scene"),
        **dict.fromkeys(("Progress", "Take", "shoot"), "take"),
    },
)
