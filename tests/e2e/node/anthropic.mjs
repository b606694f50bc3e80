// One scenario with the official Anthropic client: `node anthropic.mjs SCENARIO`, its result as JSON on standard output.
// The gateway and the caller's key come from ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY, as the client reads them itself.
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ maxRetries: 0, timeout: 30_000 });
const model = process.env.MODEL;
const base = { model, max_tokens: 200 };
const hello = [{ role: "user", content: "Hello" }];
const pixel = process.env.PIXEL;
const tools = [
  {
    name: "get_weather",
    description: "The weather of a city",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

async function told(call) {
  try {
    await call();
  } catch (error) {
    return { raised: error.constructor.name, status: error.status ?? null, type: error.error?.error?.type ?? null };
  }
  return { raised: null };
}

const scenarios = {
  async chat() {
    const answer = await client.messages.create({ ...base, system: "Be brief.", messages: hello });
    return { text: answer.content[0].text, reason: answer.stop_reason, usage: answer.usage.input_tokens };
  },
  async stream() {
    const stream = client.messages.stream({ ...base, messages: hello });
    const seen = [];
    stream.on("text", (text) => seen.push(text));
    const final = await stream.finalMessage();
    return { pieces: seen.length, text: seen.join(""), reason: final.stop_reason, usage: final.usage.output_tokens };
  },
  async tools() {
    const question = [{ role: "user", content: "How warm is it?" }];
    const call = await client.messages.create({ ...base, tools, messages: question });
    const use = call.content.find((block) => block.type === "tool_use");
    const result = { role: "user", content: [{ type: "tool_result", tool_use_id: use.id, content: "18" }] };
    const messages = [...question, { role: "assistant", content: call.content }, result];
    const answer = await client.messages.create({ ...base, tools, messages });
    return { reason: call.stop_reason, input: use.input, text: answer.content[0].text };
  },
  async streamedTools() {
    const final = await client.messages.stream({ ...base, tools, messages: hello }).finalMessage();
    return { reason: final.stop_reason, input: final.content.find((block) => block.type === "tool_use").input };
  },
  async image() {
    const source = { type: "base64", media_type: "image/png", data: pixel };
    const content = [{ type: "text", text: "What is it?" }, { type: "image", source }];
    const answer = await client.messages.create({ ...base, messages: [{ role: "user", content }] });
    return answer.content[0].text;
  },
  wrongKey: () => told(() => new Anthropic({ apiKey: "sk-of-somebody-else", maxRetries: 0 }).messages.create({ ...base, messages: hello })),
  unknownModel: () => told(() => client.messages.create({ ...base, model: "none", messages: hello })),
  badRequest: () => told(() => client.messages.create({ ...base, messages: [] })),
};

console.log(JSON.stringify(await scenarios[process.argv[2]]()));
