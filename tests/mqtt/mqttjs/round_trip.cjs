// Subscribes, publishes what it is told to, and prints what came back, as JSON. Its one argument is JSON too.
//
// Options: url, username, password, caFile, protocolVersion, topic, qos, retain, payloads (base64), properties, will,
// clientId, clean, resume (end the connection and come back for what was published meanwhile).

const fs = require("node:fs");
const mqtt = require("mqtt");

const wanted = JSON.parse(process.argv[2]);

function connect(extra) {
  return mqtt.connectAsync(wanted.url, {
    username: wanted.username,
    password: wanted.password,
    protocolVersion: wanted.protocolVersion,
    clientId: wanted.clientId,
    clean: wanted.clean,
    ca: wanted.caFile ? fs.readFileSync(wanted.caFile) : undefined,
    reconnectPeriod: 0,
    connectTimeout: 8000,
    properties: wanted.protocolVersion === 5 ? { sessionExpiryInterval: wanted.clean ? 0 : 60 } : undefined,
    ...extra,
  });
}

function collect(client, count) {
  const found = [];
  const done = new Promise((resolve) => {
    client.on("message", (topic, payload, packet) => {
      const { contentType, responseTopic, correlationData, userProperties } = packet.properties ?? {};
      found.push({
        topic,
        payload: payload.toString("base64"),
        qos: packet.qos,
        retain: packet.retain,
        contentType,
        responseTopic,
        correlationData: correlationData?.toString("base64"),
        userProperties,
      });
      if (found.length === count) resolve(found);
    });
  });
  return done;
}

function properties() {
  if (!wanted.properties) return undefined;
  const { correlationData, ...rest } = wanted.properties;
  return { ...rest, correlationData: correlationData && Buffer.from(correlationData, "base64") };
}

async function main() {
  const payloads = wanted.payloads.map((payload) => Buffer.from(payload, "base64"));
  let client = await connect();
  let arrived = collect(client, payloads.length);
  const [grant] = await client.subscribeAsync(wanted.topic, { qos: wanted.qos });
  if (grant.qos !== wanted.qos) throw new Error(`granted ${grant.qos}`);
  let publisher = client;
  if (wanted.resume) {
    await client.endAsync();
    publisher = await connect({ clientId: wanted.clientId + "p", clean: true, properties: undefined });
  }
  for (const payload of payloads) {
    await publisher.publishAsync(wanted.topic, payload, {
      qos: wanted.qos,
      retain: wanted.retain ?? false,
      properties: properties(),
    });
  }
  if (wanted.resume) {
    await publisher.endAsync();
    // Messages may come with CONNACK, so they are listened for before.
    client = mqtt.connect(wanted.url, { ...client.options, clean: false, manualConnect: true });
    arrived = collect(client, payloads.length);
    client.connect();
  }
  const found = await arrived;
  await client.endAsync();
  console.log(JSON.stringify(found));
}

setTimeout(() => {
  console.error("nothing came");
  process.exit(2);
}, 15000).unref();
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
