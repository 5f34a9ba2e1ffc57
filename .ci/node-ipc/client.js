// A node-ipc 9.2.1 client that a test drives: commands as lines of JSON on standard input, reports on standard output.
// It connects at once and again whenever the connection is lost, and ends when its input closes.
//
//   node client.js [--path FILE | --host HOST --port PORT] [--server ID] [--id ID] [--root DIR] [--appspace TEXT]
//                  [--delimiter CHARACTER] [--raw] [--retry MILLISECONDS]
//
// Without a path and a host it connects to root + appspace + server.
//
// Reports    {"connect":N}                      for the Nth time
//            {"disconnect":N}                   the Nth connection is lost; not for attempts that failed
//            {"failed":CODE}                    such an attempt, or another error of the socket
//            {"destroy":true}                   after a disconnect that was asked for
//            {"event":TYPE,"data":…}            any event but `count`; no "data" where it was absent
//            {"event":"data","hex":…}           what came in raw mode, cut anywhere
//            {"counted":N,"last":N,"in_order":BOOL}, {"dropped":1}, {"error":TEXT}
// Events     count  has a number as its data and is counted
// Commands   {"command":"emit","type":T,"data":…}              or "set":"edge"|"numbers"|"unicode","times":N; raw: "hex"
//            {"command":"await_count","at_least":N}            reports as soon as so many were counted
//            {"command":"drop"}                                breaks the connection; it comes back by itself
//            {"command":"disconnect"}, {"command":"connect"}   by node-ipc's own methods
'use strict';

const { Counter, configure, events, obey, parseArguments, report, watch } = require('./peer.js');

const options = parseArguments({ id: 'hello', path: null, host: null, port: '8000', retry: '50', server: 'world' });
const ipc = configure(options);
const counter = new Counter();
let connection = 0;
let connected = false;

ipc.config.retry = Number(options.retry);
connect();

obey({
    await_count: command => counter.awaitCount(command.at_least),
    connect,
    disconnect: () => ipc.disconnect(options.server),
    drop: () => {
        peer().socket.destroy();
        report({ dropped: 1 });
    },
    emit: command => events(command).forEach(event => peer().emit(...event)),
});

function connect() {
    if (options.host === null) {
        ipc.connectTo(options.server, options.path, connecting);
    } else {
        ipc.connectToNet(options.server, options.host, Number(options.port), connecting);
    }
}

// Called before anything can have happened, and again by a connect while connected.
function connecting() {
    if (peer().watched) {
        return;
    }
    peer().watched = true;
    watch(peer(), (type, ...event) => {
        const [data] = event;
        // A peer may send events of any name; those of node-ipc itself bring nothing or an error.
        if (event.length === 0) {
            lifecycle(type);
        } else if (data instanceof Error) {
            report({ failed: data.code || data.message });
        } else if (options.raw) {
            report({ event: type, hex: data.toString('hex') });
        } else if (type !== 'count') {
            report({ event: type, data });
        }
    });
    peer().on('count', data => counter.add(connection, data));
}

function lifecycle(type) {
    if (type === 'connect') {
        connection += 1;
        connected = true;
        report({ connect: connection });
    } else if (type === 'disconnect' && connected) {
        connected = false;
        report({ disconnect: connection });
    } else if (type === 'destroy') {
        report({ destroy: true });
    }
}

function peer() {
    const found = ipc.of[options.server];
    if (found === undefined) {
        throw new Error('not connected: disconnect was asked for');
    }
    return found;
}
