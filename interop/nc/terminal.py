"""A person at a terminal who has opened a connection with telnet or nc: types, and reads the screen."""

import os
import pty
import re
import select
import subprocess
import time

PATIENCE_S = 15
"""How long an answer that must come may take."""


class Terminal:
    def __init__(self, command):
        # A pseudo-terminal as an xterm would give: lines are sent when Enter is pressed, and what is typed is echoed.
        self.keyboard, screen = pty.openpty()
        self.process = subprocess.Popen(
            command, stdin=screen, stdout=screen, stderr=screen, start_new_session=True, close_fds=True
        )
        os.close(screen)
        self.unread = ""
        self.partial = b""

    def type(self, *lines):
        """Types lines, each ended with Enter. \\0 is Ctrl-@, which terminals show as ^@."""
        for line in lines:
            os.write(self.keyboard, (line + "\n").encode())

    def frame(self, command, *headers, body=""):
        """Types a STOMP frame: command, headers, a blank line, the body, Ctrl-@ and Enter."""
        self.type(command, *headers, "", body + "\0")

    def expect(self, pattern, what, patience_s=PATIENCE_S):
        """Reads the screen until it shows `pattern`; returns the match. What stands before it counts as read."""
        deadline = time.monotonic() + patience_s
        while not (found := re.search(pattern, self.unread)):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{what} did not appear; the screen shows {self.unread[-200:]!r}")
        self.unread = self.unread[found.end():]
        return found

    def look(self, seconds):
        """What appears on the screen during this time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._read(deadline - time.monotonic()):
            pass
        shown, self.unread = self.unread, ""
        return shown

    def _read(self, seconds):
        if not select.select([self.keyboard], [], [], max(0, seconds))[0]:
            return False
        try:
            shown = os.read(self.keyboard, 65536)
        except OSError:  # the program has ended
            return False
        # A character or a line end may have been cut in two.
        shown = self.partial + shown
        cut = max(shown.rfind(b"\n") + 1, 0) if shown[-1] >= 0x80 or shown.endswith(b"\r") else len(shown)
        self.partial = shown[cut:]
        self.unread += shown[:cut].decode(errors="replace").replace("\r\n", "\n")
        return True

    def hang_up(self):
        """Closes the window."""
        self.process.terminate()
        self.process.wait()
        os.close(self.keyboard)
