/*
 * Loads a trace into Perfetto's own trace processor, and asks it in SQL:
 *
 *     node trace_processor.js FOLDER TRACE QUERY...
 *
 * FOLDER has the viewer's files engine_bundle.js and trace_processor.wasm. Prints a list with
 * an object for each query: {"columns": [...], "rows": [[...], ...]}, or {"error": "..."}.
 *
 * The viewer runs the trace processor in a worker, which it sends messages of protos/perfetto/
 * trace_processor/trace_processor.proto, and which answers by such. Here this is the worker.
 */
"use strict";

const fs = require("fs");
const path = require("path");
const vm = require("vm");

const [folder, trace, ...queries] = process.argv.slice(2);

/* Of TraceProcessorRpc: what is asked, and the fields that hold it and its answer. */
const APPEND = 1, FINALIZE = 2, QUERY = 3;
const SEQUENCE = 1, REQUEST = 2, FATAL_ERROR = 5, DATA = 101, QUERY_ARGUMENTS = 103;
const APPEND_RESULT = 201, QUERY_RESULT = 203;
/* Of CellsBatch: a cell's type, and the fields that hold the values of each. */
const NULL = 1n, VARINT = 2n, FLOAT = 3n, STRING = 4n;

const bytes = (...parts) => Buffer.concat(parts);
const varint = (number) => {
	const found = [];
	for (; number > 127; number = Math.floor(number / 128))
		found.push((number & 127) | 128);
	return Buffer.from([...found, number]);
};
const integer = (field, value) => bytes(varint(field * 8), varint(value));
const message = (field, value) => bytes(varint(field * 8 + 2), varint(value.length), value);

function readVarint(data, at) {
	let value = 0n;
	for (let shift = 0n; ; shift += 7n) {
		if (at >= data.length)
			throw new RangeError("cut");
		const byte = data[at++];
		value |= BigInt(byte & 127) << shift;
		if (byte < 128)
			return [value, at];
	}
}

/* The fields of a message, [number, value]: an integer, or bytes. */
function* fields(data) {
	for (let at = 0; at < data.length; ) {
		let key, value;
		[key, at] = readVarint(data, at);
		if ((key & 7n) === 0n) {
			[value, at] = readVarint(data, at);
		} else {
			const size = (key & 7n) === 1n ? 8n : (key & 7n) === 5n ? 4n : undefined;
			let length = size;
			if (size === undefined)
				[length, at] = readVarint(data, at);
			value = data.subarray(at, at + Number(length));
			at += Number(length);
		}
		yield [Number(key >> 3n), value];
	}
}

function packed(data) {
	const found = [];
	for (let at = 0, value; at < data.length; ) {
		[value, at] = readVarint(data, at);
		found.push(value);
	}
	return found;
}

const answers = queries.map(() => ({ columns: [], cells: [] }));
let answered = 0;

function readBatch(answer, data) {
	let types = [], integers = [], floats = [], strings = [], isLast = false;
	for (const [field, value] of fields(data)) {
		if (field === 1)
			types = types.concat(packed(value));
		else if (field === 2)
			integers = integers.concat(packed(value));
		else if (field === 3)
			for (let at = 0; at < value.length; at += 8)
				floats.push(value.readDoubleLE(at));
		else if (field === 5)
			strings = value.toString().split("\0");
		else if (field === 6)
			isLast = value !== 0n;
	}
	for (const type of types) {
		if (type === NULL)
			answer.cells.push("null");
		else if (type === VARINT)
			answer.cells.push(String(BigInt.asIntN(64, integers.shift())));
		else if (type === FLOAT)
			answer.cells.push(JSON.stringify(floats.shift()));
		else if (type === STRING)
			answer.cells.push(JSON.stringify(strings.shift()));
		else
			throw new Error(`a cell of type ${type}`);
	}
	return isLast;
}

function readAnswer(data) {
	for (const [field, value] of fields(data)) {
		if (field === FATAL_ERROR)
			throw new Error(value.toString());
		if (field === APPEND_RESULT)
			for (const [inner, error] of fields(value))
				if (inner === 2)
					throw new Error(`the trace processor refuses the trace: ${error}`);
		if (field !== QUERY_RESULT)
			continue;
		const answer = answers[answered];
		let isLast = false;
		for (const [inner, found] of fields(value)) {
			if (inner === 1)
				answer.columns.push(found.toString());
			else if (inner === 2)
				answer.error = found.toString();
			else if (inner === 3)
				isLast = readBatch(answer, found);
		}
		if (isLast || answer.error !== undefined)
			answered++;
	}
	if (answered < answers.length)
		return;
	const texts = answers.map((answer) => {
		if (answer.error)
			return JSON.stringify({ error: answer.error });
		const width = answer.columns.length, rows = [];
		for (let at = 0; at < answer.cells.length; at += width)
			rows.push(`[${answer.cells.slice(at, at + width)}]`);
		return `{"columns":${JSON.stringify(answer.columns)},"rows":[${rows}]}`;
	});
	fs.writeSync(1, `[${texts}]\n`);
	process.exit(0);
}

/* What it finds where it runs in a browser. */
globalThis.self = { location: { href: "file:///" } };
globalThis.WorkerGlobalScope = class {};
globalThis.XMLHttpRequest = class {
	open(method, url) {
		this.file = path.join(folder, path.basename(url));
	}
	send() {
		const data = fs.readFileSync(this.file);
		this.response = data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
	}
};
const engine = fs.readFileSync(path.join(folder, "engine_bundle.js"), "utf8");
vm.runInThisContext(`(process, console) => {${engine}\n}`)(undefined, {
	...console, log: console.error, warn: console.error,
});

const { port1, port2 } = new MessageChannel();
self.onmessage({ data: port1 });

let sequence = 0, pending = Buffer.alloc(0);
const ask = (what, ...more) => {
	const asked = bytes(integer(SEQUENCE, ++sequence), integer(REQUEST, what), ...more);
	port2.postMessage(new Uint8Array(message(1, asked)));
};
port2.on("message", (data) => {
	pending = bytes(pending, data); /* a large answer comes in pieces */
	for (;;) {
		let length, at;
		try {
			[length, at] = readVarint(pending, 1);
		} catch {
			return;
		}
		if (pending.length < at + Number(length))
			return;
		const answer = pending.subarray(at, at + Number(length));
		pending = pending.subarray(at + Number(length));
		readAnswer(answer);
	}
});
ask(APPEND, message(DATA, fs.readFileSync(trace)));
ask(FINALIZE);
for (const query of queries)
	ask(QUERY, message(QUERY_ARGUMENTS, message(1, Buffer.from(query))));
