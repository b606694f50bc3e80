// One scenario with the official Node client: `node client.mjs SCENARIO`, its result as JSON on standard output.
// The gateway and the caller's key come from OPENAI_BASE_URL and OPENAI_API_KEY, as the client reads them itself.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0, timeout: 30_000 });
const messages = [{ role: "user", content: "hello" }];
const model = process.env.MODEL ?? "gpt-4";
const tools = [
  { type: "function", function: { name: "f", parameters: { type: "object", properties: { a: { type: "integer" } } } } },
];

// What the client raised, as far as its callers tell errors apart.
function told(error) {
  return {
    raised: error.constructor.name,
    isAPIError: error instanceof OpenAI.APIError,
    status: error.status ?? null,
    code: error.code ?? null,
    param: error.param ?? null,
    requestID: error.requestID ?? null,
    retryAfter: error.headers?.get?.("retry-after") ?? null,
  };
}

async function raises(call) {
  try {
    await call();
  } catch (error) {
    return told(error);
  }
  return { raised: null };
}

const chat = (more = {}) => client.chat.completions.create({ model, messages, ...more });

async function streamed(more = {}) {
  const stream = await chat({ stream: true, ...more });
  const seen = { text: "", finish: null, usage: null, error: null };
  try {
    for await (const chunk of stream) {
      seen.text += chunk.choices[0]?.delta?.content ?? "";
      seen.finish = chunk.choices[0]?.finish_reason ?? seen.finish;
      seen.usage = chunk.usage?.total_tokens ?? seen.usage;
    }
  } catch (error) {
    seen.error = told(error);
  }
  return seen;
}

const scenarios = {
  async chat() {
    const { data, response, request_id } = await chat({ seed: 7 }).withResponse();
    return { text: data.choices[0].message.content, usage: data.usage.total_tokens, requestId: request_id,
      header: response.headers.get("x-request-id") };
  },
  stream: () => streamed(),
  streamWithUsage: () => streamed({ stream_options: { include_usage: true } }),
  brokenStream: () => streamed(),
  async tools() {
    const answer = await chat({ tools, tool_choice: "auto" });
    return answer.choices[0].message.tool_calls;
  },
  async streamedTools() {
    const final = await client.chat.completions.stream({ model, messages, tools }).finalChatCompletion();
    return final.choices[0].message.tool_calls;
  },
  async embeddings() {
    const packed = await client.embeddings.create({ model: "echo", input: "a" });
    const plain = await client.embeddings.create({ model: "echo", input: "a", encoding_format: "float" });
    return { packed: packed.data[0].embedding, plain: plain.data[0].embedding };
  },
  async models() {
    const ids = [];
    for await (const one of client.models.list()) ids.push(one.id);
    return { ids, one: (await client.models.retrieve("gpt-4")).id, none: await raises(() => client.models.retrieve("none")) };
  },
  wrongKey: () => raises(() => new OpenAI({ apiKey: "sk-of-somebody-else", maxRetries: 0 }).models.list()),
  unknownModel: () => raises(() => chat({ model: "gpt-none" })),
  badRequest: () => raises(() => chat({ messages: [] })),
  tooLarge: () => raises(() => chat({ messages: [{ role: "user", content: "x".repeat(200_000) }] })),
  upstreamError: () => raises(() => chat()),
  upstreamErrorStreamed: () => raises(() => chat({ stream: true })),
  tooSlow: () => raises(() => chat({ model: "slow" })),
  async typedAnswer() {
    const schema = { type: "object", properties: { name: { type: "string" }, age: { type: "integer" } },
      required: ["name", "age"], additionalProperties: false };
    const form = { type: "json_schema", json_schema: { name: "person", schema, strict: true } };
    return JSON.parse((await chat({ response_format: form })).choices[0].message.content);
  },
  async image() {
    const url = `data:image/png;base64,${process.env.PIXEL}`;
    const content = [{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url } }];
    return (await chat({ messages: [{ role: "user", content }] })).choices[0].message.content;
  },
  async responses() {
    const whole = await client.responses.create({ model, input: "Hello" });
    const seen = [];
    for await (const event of await client.responses.create({ model, input: "Hello", stream: true })) seen.push(event.type);
    return { text: whole.output_text, status: whole.status, first: seen[0], last: seen.at(-1) };
  },
  async realModel() {
    const question = [{ role: "user", content: "What is the capital of France?" }];
    const limits = { model: "smollm", messages: question, temperature: 0, max_tokens: 40 };
    return { whole: (await chat(limits)).choices[0].message.content, streamed: (await streamed(limits)).text };
  },
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
