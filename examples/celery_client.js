// Enqueue a mission and follow it to its end from Node, with nothing but celery-node (npm install celery-node).
//
//   export REDIS_URL='redis://celery:password@127.0.0.1:6379/0?allowUsernameInURI=true'
//   node examples/celery_client.js https://docs.example.com/page
//
// celery-node's Redis client (ioredis 4) sends the user name only if the URL contains `allowUsernameInURI=true`. Prints the
// ticket and the last status as JSON. Exit codes: 0 the mission succeeded, 1 it did not, 2 usage error.

"use strict";

const QUEUE = "missions";
const TERMINAL = ["succeeded", "failed", "dead"];
const ANSWER_MS = 60_000;
const POLL_MS = 500;

async function follow(ask, url) {
  const ticket = await ask("decoder.submit", url);
  console.log(JSON.stringify(ticket));
  for (;;) {
    const status = await ask("decoder.status", ticket.id);
    if (TERMINAL.includes(status.state)) return status;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function main(url, redisUrl) {
  const client = require("celery-node").createClient(redisUrl, redisUrl, QUEUE);
  // The result of a task; a refusal is an Error with Celery's `exc_message`.
  const ask = (task, argument) => client.sendTask(task, [argument], {}).get(ANSWER_MS);
  try {
    const status = await follow(ask, url);
    console.log(JSON.stringify(status));
    return status.state === "succeeded" ? 0 : 1;
  } catch (refusal) {
    console.error(`error: ${refusal.exc_message ?? "no answer: is a worker running?"}`);
    return 1;
  } finally {
    await client.disconnect();
  }
}

const [url] = process.argv.slice(2);
const { REDIS_URL } = process.env;
if (url === undefined || !REDIS_URL) {
  console.error("usage: REDIS_URL=redis://celery:password@host:6379/0?allowUsernameInURI=true node celery_client.js URL");
  process.exitCode = 2;
} else {
  main(url, REDIS_URL).then((code) => (process.exitCode = code));
}
