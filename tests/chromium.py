"""Headless Chromium on one page, driven over two pipes: no driver, no web socket, no network."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    '--headless', '--no-sandbox', '--use-angle=swiftshader', '--enable-unsafe-swiftshader', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
    '--hide-scrollbars', '--remote-debugging-pipe',
)  # fmt: skip


class Page:
    """A page that records its console, its errors and every request. Use as a context manager."""

    def __init__(self, file: Path, fragment: str = '', width: int = 1280, height: int = 900) -> None:
        binary = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
        if not binary:
            pytest.skip('no chromium; install it (Debian: apt-get install chromium)')
        self.problems: list[str] = []
        self.requests: list[str] = []
        self._buffer, self._number = b'', 0
        self._profile = tempfile.mkdtemp()
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        # Chromium reads commands from descriptor 3 and answers on 4.
        shell = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        command = ['bash', '-c', shell, binary, *FLAGS, f'--user-data-dir={self._profile}', 'about:blank']
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, pass_fds=(theirs_in, theirs_out), stdin=quiet, stdout=quiet, stderr=quiet
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._session = ''
        targets = self.call('Target.getTargets')['targetInfos']
        target = next(each['targetId'] for each in targets if each['type'] == 'page')
        self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')
        self.size(width, height)
        self.call('Page.navigate', url=file.absolute().as_uri() + fragment)
        self.wait('document.readyState === "complete"')

    def __enter__(self) -> 'Page':
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self._profile, ignore_errors=True)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol; its result."""
        self._number += 1
        message = {'id': self._number, 'method': method, 'params': params}
        if self._session:
            message['sessionId'] = self._session
        os.write(self._out, json.dumps(message).encode() + b'\0')
        deadline = time.monotonic() + 90
        while True:
            answer = self._receive(deadline)
            if answer.get('id') == self._number:
                assert 'error' not in answer, answer
                return answer['result']
            self._note(answer)

    def run(self, script: str) -> Any:
        """The value of an expression in the page, awaited."""
        result = self.call('Runtime.evaluate', expression=script, awaitPromise=True, returnByValue=True)
        assert 'exceptionDetails' not in result, result['exceptionDetails']
        return result['result'].get('value')

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + seconds
        while not self.run(f'Boolean({condition})'):
            assert time.monotonic() < deadline, f'never true: {condition}; {self.problems}'
            time.sleep(0.1)

    def press(self, key: str) -> None:
        """A key, down and up; a letter types."""
        text = {'text': key} if len(key) == 1 else {}
        self.call('Input.dispatchKeyEvent', type='keyDown', key=key, **text)
        self.call('Input.dispatchKeyEvent', type='keyUp', key=key)

    def size(self, width: int, height: int, mobile: bool = False) -> None:
        """Of the window, in CSS pixels."""
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def screenshot(self, whole: bool = False) -> bytes:
        """The page as a PNG, what the window shows or all of it."""
        return base64.b64decode(self.call('Page.captureScreenshot', captureBeyondViewport=whole)['data'])

    def pdf(self) -> bytes:
        """The page as it prints."""
        return base64.b64decode(self.call('Page.printToPDF', printBackground=False)['data'])

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b'\0' not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0, deadline - time.monotonic()))
            read = os.read(self._in, 1 << 20) if ready else b''
            assert read, f'chromium does not answer (exit code {self._process.poll()})'
            self._buffer += read
        message, _, self._buffer = self._buffer.partition(b'\0')
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        params = event.get('params', {})
        if event['method'] == 'Network.requestWillBeSent':
            self.requests.append(params['request']['url'])
        elif event['method'] == 'Runtime.exceptionThrown':
            self.problems.append(json.dumps(params['exceptionDetails'])[:500])
        elif event['method'] == 'Log.entryAdded' and params['entry']['level'] in ('warning', 'error'):
            self.problems.append(params['entry']['text'])
        elif event['method'] == 'Runtime.consoleAPICalled' and params['type'] in ('warning', 'error', 'assert'):
            self.problems.append(' '.join(str(each.get('value', each.get('description'))) for each in params['args']))
