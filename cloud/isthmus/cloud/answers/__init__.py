"""The answers that the gateway gives and keeps: written once, read by whoever asked for them."""

from isthmus.cloud.answers.answer import Answer, Asked, Reader
from isthmus.cloud.answers.register import Answers, Window

__all__ = ["Answer", "Answers", "Asked", "Reader", "Window"]
