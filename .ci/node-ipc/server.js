// A node-ipc 9.2.1 server that a test drives: commands as lines of JSON on standard input, reports on standard output.
// It ends when its input closes.
//
//   node server.js [--path FILE | --host HOST --port PORT] [--id ID] [--root DIR] [--appspace TEXT]
//                  [--delimiter CHARACTER] [--raw]
//
// Without a path and a host it listens at root + appspace + id. Port 0 takes a free one.
//
// Reports    {"ready":true,"port":N}            it listens; the port over TCP only
//            {"connect":N}, {"disconnect":N}    the Nth connection; the latter has "id" where the client said one
//            {"event":TYPE,"data":…,"from":N}   any event but `echo` and `count`; no "data" where it was absent
//            {"event":"data","hex":…,"from":N}  what came in raw mode, cut anywhere
//            {"counted":N,"last":N,"in_order":BOOL}, {"dropped":N}, {"stopped":true}, {"error":TEXT}
// Events     echo   is answered under `echo` with the same data; in raw mode all bytes are
//            count  has a number as its data and is counted
// Commands   {"command":"broadcast","type":T,"data":…}         or "set":"edge"|"numbers"|"unicode","times":N; raw: "hex"
//            {"command":"emit","to":N,"type":T,"data":…}       to one connection; the same choice
//            {"command":"await_count","at_least":N}            reports as soon as so many were counted
//            {"command":"drop"}                                breaks all connections and listens on
//            {"command":"stop"}, {"command":"start"}           ends the listener and its connections; listens again
'use strict';

const net = require('net');
const { Counter, configure, events, obey, parseArguments, report, watch } = require('./peer.js');

const options = parseArguments({ id: 'world', path: null, host: null, port: '0' });
const ipc = configure(options);
const connections = new Map();
const counter = new Counter();
let connected = 0;

if (options.host === null) {
    ipc.serve(options.path, started);
} else {
    ipc.serveNet(options.host, 1, started);
    // node-ipc takes the number 0 for "no port"; the text goes through to the system.
    ipc.server.port = options.port;
}

watch(ipc.server, (type, data, source) => {
    // A peer may send events of any name. Those of node-ipc itself are about a socket or an error, or come from nowhere:
    // `close` does not say of whom, which `socket.disconnected` does.
    const fromPeer = source instanceof net.Socket;
    if (data instanceof net.Socket) {
        lifecycle(type, data, source);
    } else if (data instanceof Error) {
        report({ error: data.message });
    } else if (fromPeer && options.raw) {
        report({ event: type, hex: data.toString('hex'), from: numberOf(source) });
        ipc.server.emit(source, data);
    } else if (fromPeer && type !== 'echo' && type !== 'count') {
        report({ event: type, data, from: numberOf(source) });
    }
});
ipc.server.on('echo', (data, socket) => ipc.server.emit(socket, 'echo', data));
ipc.server.on('count', (data, socket) => counter.add(socket, data));

obey({
    await_count: command => counter.awaitCount(command.at_least),
    broadcast: command => events(command).forEach(event => ipc.server.broadcast(...event)),
    drop: () => report({ dropped: destroyAll() }),
    emit: command => {
        const [socket] = [...connections].find(([, number]) => number === command.to) || [];
        if (socket === undefined) {
            throw new Error(`no connection ${command.to}`);
        }
        events(command).forEach(event => ipc.server.emit(socket, ...event));
    },
    start: () => ipc.server.start(),
    stop: () => {
        ipc.server.server.once('close', () => report({ stopped: true }));
        ipc.server.stop();
        destroyAll();
    },
});

ipc.server.start();

function started(_, socket) {
    // An event `start` of a peer comes here as well, with its socket.
    if (socket !== undefined) {
        return;
    }
    if (options.host === null) {
        report({ ready: true });
    } else {
        // Kept, so that it is the same one after a stop.
        ipc.server.port = ipc.server.server.address().port;
        report({ ready: true, port: ipc.server.port });
    }
}

function lifecycle(type, socket, id) {
    if (type === 'connect') {
        connected += 1;
        connections.set(socket, connected);
        report({ connect: connected });
    } else if (type === 'socket.disconnected') {
        report({ disconnect: numberOf(socket), id: id === false ? undefined : id });
        connections.delete(socket);
    }
}

function numberOf(socket) {
    return connections.get(socket);
}

function destroyAll() {
    const sockets = [...connections.keys()];
    sockets.forEach(socket => socket.destroy());
    return sockets.length;
}
