"""Plays each case through the real binary, between a raw client and a raw upstream, and holds the record against what is right.

A case in cases/ is a module with SOURCE (the public report it is made of), WHAT, REQUEST (path, headers, body), ANSWER (pieces that
are written with a short pause between them; a number is a longer pause, None a reset) and CHECK(record, records), which returns what
is wrong. See kit.py for what builds these.

usage: THREADTAP=BINARY harness.py [-v] [case ...]      a case is named by the beginning of its file's name

Standard library only. Prints each case that does not hold, and a summary; exits 1 if one does not.
"""
import asyncio, importlib.util, json, os, pathlib, re, shutil, socket, struct, subprocess, sys, tempfile, time, urllib.request

HERE = pathlib.Path(__file__).parent
# How long a record may take: as long as a busy machine needs. Where all is well nothing is waited for.
PATIENCE = 30
REFUSAL = b'HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 31\r\n\r\n{"error":{"message":"not yet"}}'
SETTINGS = '[correlation]\nunresolved_grace = "1s"\nassumed_run_time = "1s"\noutputs_grace = "1s"\n'


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    case = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    case.NAME = path.stem
    return case


async def read_request(reader):
    head = await reader.readuntil(b'\r\n\r\n')
    length = re.search(rb'(?im)^content-length: *(\d+)', head)
    if length:
        return head, await reader.readexactly(int(length.group(1)))
    body = b''
    if re.search(rb'(?im)^transfer-encoding: *chunked', head):
        size = -1
        while size:
            size = int((await reader.readuntil(b'\r\n')).split(b';')[0], 16)
            body += (await reader.readexactly(size + 2))[:size]
    return head, body


async def upstream(cases, seen):
    async def serve(reader, writer):
        try:
            head, body = await read_request(reader)
            while b'x-before: ' in head:
                writer.write(REFUSAL)
                await writer.drain()
                head, body = await read_request(reader)
            case = cases[re.search(rb'(?im)^x-case: *(\S+)', head).group(1).decode()]
            seen[case.NAME] = body
            for piece in case.ANSWER:
                if piece is None:
                    linger = struct.pack('ii', 1, 0)
                    writer.get_extra_info('socket').setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()
                    return
                if isinstance(piece, (int, float)):
                    await asyncio.sleep(piece)
                    continue
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return await asyncio.start_server(serve, '127.0.0.1', 0, limit=1 << 24)


def request_body(case):
    body = case.REQUEST.get('body', b'')
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def request(case, **more):
    body = request_body(case)
    heads = {'host': 'api.example.test', 'content-type': 'application/json', **case.REQUEST.get('headers', {})}
    heads |= {'x-case': case.NAME, 'x-threadtap-session': case.NAME, 'content-length': len(body), **more}
    lines = [f"{case.REQUEST.get('method', 'POST')} {case.REQUEST['path']} HTTP/1.1"]
    lines += [f'{name}: {value}' for name, value in heads.items()]
    return '\r\n'.join([*lines, '', '']).encode() + body


async def client(port, case):
    """Sends the request on a connection on which one was refused before, and returns what comes."""
    reader, writer = await asyncio.open_connection('127.0.0.1', port, limit=1 << 24)
    writer.write(request(case, **{'x-before': 'it'}))
    await writer.drain()
    refused = await asyncio.wait_for(reader.readexactly(len(REFUSAL)), PATIENCE)
    writer.write(request(case, connection='close'))
    await writer.drain()
    got = b'' if refused == REFUSAL else refused
    try:
        while piece := await asyncio.wait_for(reader.read(65536), PATIENCE):
            got += piece
            if case.REQUEST.get('leave_after', got + b'.') in got:
                break
    except ConnectionError:
        pass
    writer.close()
    return got


def unframe(raw):
    """Head, body, and whether the body is whole."""
    head, _, body = raw.partition(b'\r\n\r\n')
    if not re.search(rb'(?im)^transfer-encoding: *chunked', head):
        return head, body, True
    out = b''
    while body:
        line, _, body = body.partition(b'\r\n')
        size = int(line.split(b';')[0] or b'0', 16)
        if size == 0:
            return head, out, True
        out, body = out + body[:size], body[size + 2:]
    return head, out, False


def wire(case, got, sent):
    """What differs between what upstream sent and what the client got, and the other way round."""
    bad = []
    head, body, _ = unframe(b''.join(piece for piece in case.ANSWER if isinstance(piece, bytes)))
    got_head, got_body, whole = unframe(got)
    hop = {b'connection', b'transfer-encoding', b'keep-alive', b'content-length'}
    lines = lambda head: [l for l in head.split(b'\r\n')[1:] if l.split(b':')[0].strip().lower() not in hop]
    if lines(head) != lines(got_head):
        bad.append(f'header lines: sent {lines(head)}, got {lines(got_head)}')
    if 'leave_after' not in case.REQUEST and got_body != body:
        bad.append(f'response body: {len(body)} bytes sent, {len(got_body)} got, or others')
    if None in case.ANSWER and whole and b'chunked' in got_head:
        bad.append('a clean end after a reset')
    if sent != request_body(case):
        bad.append('request body differs')
    return bad


class Threadtap:
    def __init__(self, upstream_port):
        self.home = tempfile.mkdtemp(prefix='cases-')
        settings = pathlib.Path(self.home) / 'settings.toml'
        settings.write_text(SETTINGS)
        self.log = open(pathlib.Path(self.home) / 'log', 'wb')
        command = [os.environ.get('THREADTAP', 'target/debug/threadtap'), '--config', str(settings), '--upstream',
                   f'http://127.0.0.1:{upstream_port}', '--listen', '127.0.0.1:0', '--admin-listen', '127.0.0.1:0', '--data-dir', self.home]
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        said = self.wait_for(lambda: re.search(r'"listen":"[^"]*:(\d+)".*"admin":"([^"]*)"', self.said()))
        self.port, self.admin = int(said.group(1)), said.group(2)

    def said(self):
        return (pathlib.Path(self.home) / 'log').read_text()

    def wait_for(self, fact):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if found := fact():
                return found
            time.sleep(0.05)
        raise SystemExit('threadtap did not start:\n' + self.said())

    def get(self, path):
        return urllib.request.urlopen(f'http://{self.admin}{path}', timeout=PATIENCE).read().decode()

    def captured(self):
        return float(re.search(r'^threadtap_captured_exchanges_total (\S+)', self.get('/metrics'), re.M).group(1))

    def records(self, name):
        page = json.loads(self.get('/api/v1/interactions?limit=500'))
        records = page if isinstance(page, list) else next(v for v in page.values() if isinstance(v, list))
        records = [record.get('interaction', record) for record in records]
        return [record for record in records if record['attribution'].get('session') == name]

    def close(self):
        self.process.terminate()
        self.process.wait(PATIENCE)
        self.log.close()
        shutil.rmtree(self.home, ignore_errors=True)


def check(case, records):
    try:
        return case.CHECK(records[0] if records else None, records) or []
    except Exception as error:
        return [f'the check raised {error!r}']


async def main(names):
    sys.path.insert(0, str(HERE))
    files = [file for file in sorted((HERE / 'cases').glob('*.py')) if not names or file.stem.startswith(tuple(names))]
    cases = {file.stem: load(file) for file in files}
    seen, failed = {}, {}
    server = await upstream(cases, seen)
    threadtap = await asyncio.to_thread(Threadtap, server.sockets[0].getsockname()[1])
    try:
        for name, case in cases.items():
            before = await asyncio.to_thread(threadtap.captured)
            got = await client(threadtap.port, case)
            bad, deadline = ['nothing was captured'], time.monotonic() + PATIENCE
            while bad and time.monotonic() < deadline:
                if await asyncio.to_thread(threadtap.captured) > before:
                    bad = check(case, await asyncio.to_thread(threadtap.records, name))
                if bad:
                    await asyncio.sleep(0.1)
            if bad := bad + wire(case, got, seen.get(name)):
                failed[name] = bad
        # What came later must not have changed anything.
        for name, case in cases.items():
            if name not in failed and (bad := check(case, await asyncio.to_thread(threadtap.records, name))):
                failed[name] = ['later: ' + line for line in bad]
        for name, bad in failed.items():
            print(f'{name} [{cases[name].SOURCE}]: {cases[name].WHAT}')
            print(*(f'  {line}' for line in bad), sep='\n')
            if '-v' in sys.argv:
                print(json.dumps(threadtap.records(name), indent=1, ensure_ascii=False))
    finally:
        threadtap.close()
        server.close()
    print(f'Cases: {len(cases) - len(failed)} passed, {len(failed)} failed')
    return bool(failed) or not cases


if __name__ == '__main__':
    sys.exit(asyncio.run(main([name for name in sys.argv[1:] if name != '-v'])))
