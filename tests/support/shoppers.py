"""Somebody who opens a page of the shop."""

from collections.abc import Awaitable, Callable

from playwright.async_api import Page

SECRET = "whsec_browser"
Someone = Callable[..., Awaitable[Page]]
