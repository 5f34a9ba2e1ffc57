// What server.js and client.js share: arguments, lines of JSON in and out, payloads, counting.
'use strict';

const ipc = require('node-ipc');
const readline = require('readline');

// The arguments as an object: `--name value`, and `--raw` by itself. What is not named in `defaults` is refused.
function parseArguments(defaults) {
    const options = Object.assign({ raw: false, delimiter: '\f', root: '/tmp/', appspace: 'app.' }, defaults);
    const words = process.argv.slice(2);
    while (words.length > 0) {
        const word = words.shift();
        const name = word.replace(/^--/, '');
        if (name === word || !Object.keys(options).includes(name)) {
            throw new Error(`unknown argument: ${word}`);
        }
        if (name !== 'raw' && words.length === 0) {
            throw new Error(`${word} needs a value`);
        }
        options[name] = name === 'raw' ? true : words.shift();
    }
    return options;
}

// node-ipc for these options. Silent, as standard output carries our reports.
function configure(options) {
    ipc.config.silent = true;
    ipc.config.id = options.id;
    ipc.config.socketRoot = options.root;
    ipc.config.appspace = options.appspace;
    // A 9.2.1 receiver compares the delimiter with one character, so it hears nothing with a longer one.
    ipc.config.delimiter = options.delimiter;
    ipc.config.rawBuffer = options.raw;
    // Raw bytes pass through this encoding on both ways; UTF-8 would damage them.
    ipc.config.encoding = options.raw ? 'hex' : 'utf8';
    return ipc;
}

// Sees everything that node-ipc publishes. Its own wildcard '*' throws under Node 10 and later: event-pubsub looks at
// the second character of the version, takes 20 for old, and its old half cannot pass on events without an object.
function watch(emitter, listener) {
    const publish = emitter.publish;
    emitter.publish = function publishAndReport(...published) {
        listener(...published);
        return publish.apply(this, published);
    };
}

function report(line) {
    let text;
    try {
        text = JSON.stringify(line);
    } catch (error) {
        // What nests too deeply was parsed all the same.
        text = JSON.stringify({ error: error.message });
    }
    process.stdout.write(`${text}\n`);
}

// Obeys `{"command":NAME,…}` lines until standard input closes; then the program ends.
function obey(commands) {
    const input = readline.createInterface({ input: process.stdin });
    input.on('line', line => {
        try {
            const command = JSON.parse(line);
            if (!Object.keys(commands).includes(command.command)) {
                throw new Error(`unknown command: ${command.command}`);
            }
            commands[command.command](command);
        } catch (error) {
            report({ error: error.message });
        }
    });
    input.on('close', () => process.exit(0));
    process.stdout.on('error', () => process.exit(0));
}

// The arguments of `emit` for each event of a command: of `"data"`, of `"set":NAME,"times":N`, or of `"hex"` in raw mode.
// Without any of them it is one event with absent data.
function events(command) {
    if (command.hex !== undefined) {
        return [[Buffer.from(command.hex, 'hex')]];
    }
    if (command.set === undefined) {
        return [[command.type, command.data]];
    }
    if (!Object.keys(SETS).includes(command.set)) {
        throw new Error(`unknown set: ${command.set}`);
    }
    return Array.from({ length: command.times }, (_, index) => [command.type, SETS[command.set](index)]);
}

// Counts the numbers that arrive, and whether each follows the one before it from the same source.
class Counter {
    constructor() {
        this.previous = new Map();
        this.counted = 0;
        this.inOrder = true;
        this.waiting = [];
    }

    add(source, number) {
        const previous = this.previous.get(source);
        this.inOrder = this.inOrder && (previous === undefined || number === previous + 1);
        this.previous.set(source, number);
        this.counted += 1;
        this.last = number;
        this.tell();
    }

    // Reports once, as soon as so many have come.
    awaitCount(atLeast) {
        this.waiting.push(atLeast);
        this.tell();
    }

    tell() {
        const due = this.waiting.filter(atLeast => atLeast <= this.counted);
        this.waiting = this.waiting.filter(atLeast => atLeast > this.counted);
        due.forEach(() => report({ counted: this.counted, last: this.last, in_order: this.inOrder }));
    }
}

function nested(depth) {
    let value = 'bottom';
    for (let level = 0; level < depth; level += 1) {
        value = level % 2 === 0 ? [value] : { deeper: value };
    }
    return value;
}

// node-ipc itself sends `{}` for `""`, null and absent data.
const EDGE = [
    { number: 1, text: 'two', list: [3], nothing: null, yes: true, '': 'empty key' },
    [1, 'two', [3], null, true, {}],
    'text',
    '',
    42,
    0,
    -1,
    1.5,
    1e21,
    9007199254740991,
    true,
    false,
    null,
    undefined,
    {},
    [],
    nested(100),
    'é ß 漢字 ✓ 👩‍👩‍👧 \u{10FFFF}',
    '\u0000\u0001\u0008\u0009\u000a\u000b\u000d\u001f\u007f\u0080\u2028\u2029',
    'form\ffeed, "quote", \\backslash, /slash',
    { 'key\f"é': '\f' },
];

const TEXTS = [
    'plain',
    'Grüße aus Zürich',
    'Ελληνικά и кириллица',
    '漢字かな交じり文',
    'עברית and العربية',
    '🦀 ↔ 🐢 👩‍👩‍👧‍👦 🏳️‍🌈',
    'e\u0301 beside \u00e9',
    '\u{1F980}'.repeat(50),
];

const SETS = {
    edge: index => EDGE[index % EDGE.length],
    numbers: index => index,
    unicode: index => ({ number: index, text: TEXTS[index % TEXTS.length] }),
};

module.exports = { Counter, configure, events, obey, parseArguments, report, watch };
