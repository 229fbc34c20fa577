"""Protected mode, after Redis's: one gate in front of every route, and nothing passes that no rule lets in.

`rules` decides, purely; `proxies` finds out who really asks; `door` is the ASGI application that does what was decided.
No answer carries CORS headers: no other site has business here.
"""

from homelab.gate.door import Gate
from homelab.gate.proxies import Proxies
from homelab.gate.request import Application, GateRequest, Message, Receive, Scope, Send, quote
from homelab.gate.rules import House, Verdict, Way, judge

__all__ = [
    "Application",
    "Gate",
    "GateRequest",
    "House",
    "Message",
    "Proxies",
    "Receive",
    "Scope",
    "Send",
    "Verdict",
    "Way",
    "judge",
    "quote",
]
