"""The ``animate`` job as functions: a photo and a recording go in, a video, a report and a plot come out.

request = Request(image="me.jpg", audio="hello.wav", out="hello.mp4", compare=True)
result = animate(request)
print(result.report["speedup"])
"""

from .job import Result, animate
from .request import Outputs, Request
from .scene import Scene, prepare
from .take import Progress, Take, shoot

__all__ = ["Outputs", "Progress", "Request", "Result", "Scene", "Take", "animate", "prepare", "shoot"]
