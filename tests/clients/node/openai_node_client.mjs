// The official Node client.
import OpenAI, { toFile } from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import {
  ASK, FILE, IMAGE, RESULTS, TOOLS, gathered, headersOf, left, play, timed,
} from "./playing.mjs";

const Weather = z.object({ city: z.string(), degrees: z.number() });

function clientOf(target, scene, maxRetries = 0) {
  return new OpenAI({
    baseURL: target.base_url,
    apiKey: "sk-the-clients-own",
    defaultHeaders: headersOf(target, scene),
    maxRetries,
    timeout: 10_000,
  });
}

function called(choice) {
  const calls = choice.message.tool_calls.map((call) => [
    call.id, call.function.name, JSON.parse(call.function.arguments),
  ]);
  return { finish: choice.finish_reason, calls };
}

async function chat(target) {
  const answer = await clientOf(target, "chat").chat.completions.create({
    model: "chat", messages: ASK, temperature: 1.0, seed: 7,
  });
  const choice = answer.choices[0];
  return {
    text: choice.message.content,
    finish: choice.finish_reason,
    tokens: answer.usage.total_tokens,
    raw: answer,
  };
}

async function stream(target) {
  const chunks = await clientOf(target, "stream").chat.completions.create({
    model: "stream", messages: ASK, stream: true, stream_options: { include_usage: true },
  });
  const shown = { text: "", finish: null, tokens: null, raw: [] };
  for await (const chunk of chunks) {
    shown.raw.push(chunk);
    for (const choice of chunk.choices) {
      shown.text += choice.delta.content ?? "";
      shown.finish = choice.finish_reason ?? shown.finish;
    }
    shown.tokens = chunk.usage?.total_tokens ?? shown.tokens;
  }
  return shown;
}

async function tools(target) {
  const answer = await clientOf(target, "tools").chat.completions.create({
    model: "tools", messages: ASK, tools: TOOLS,
  });
  return { ...called(answer.choices[0]), raw: answer };
}

async function toolsStreamed(target) {
  const runner = clientOf(target, "tools streamed").chat.completions.stream({
    model: "tools streamed", messages: ASK, tools: TOOLS, parallel_tool_calls: true,
  });
  const answer = await runner.finalChatCompletion();
  return { ...called(answer.choices[0]), raw: answer };
}

async function toolLoop(target) {
  const runnable = TOOLS.map((one) => ({
    type: "function",
    function: { ...one.function, parse: JSON.parse, function: () => RESULTS[one.function.name] },
  }));
  const runner = clientOf(target, "tool loop").chat.completions.runTools({
    model: "tool loop", messages: ASK, tools: runnable,
  });
  return { text: await runner.finalContent() };
}

async function structured(target) {
  const answer = await clientOf(target, "structured").chat.completions.parse({
    model: "structured", messages: ASK, response_format: zodResponseFormat(Weather, "weather"),
  });
  return { ...answer.choices[0].message.parsed, raw: answer };
}

async function vision(target) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image_url", image_url: { url: IMAGE, detail: "low" } },
  ];
  const answer = await clientOf(target, "vision").chat.completions.create({
    model: "vision", messages: [{ role: "user", content }],
  });
  return { text: answer.choices[0].message.content, raw: answer };
}

async function refused(target) {
  try {
    await clientOf(target, "refused", 2).chat.completions.create({
      model: "refused", messages: ASK,
    });
  } catch (error) {
    if (!(error instanceof OpenAI.BadRequestError)) throw error;
    return { status: error.status, code: error.code, raw: [error.message, error.error] };
  }
}

function retried(scene) {
  return (target) =>
    timed(async () => {
      const answer = await clientOf(target, scene, 2).chat.completions.create({
        model: scene, messages: ASK,
      });
      return answer.choices[0].message.content;
    });
}

async function cancel(target) {
  const chunks = await clientOf(target, "cancel").chat.completions.create({
    model: "cancel", messages: ASK, stream: true,
  });
  let text = "";
  for await (const chunk of chunks) {
    text = chunk.choices[0].delta.content;
    break;
  }
  chunks.controller.abort();
  return { text, left: await left(target) };
}

function broken(scene) {
  return async (target) => {
    const chunks = await clientOf(target, scene).chat.completions.create({
      model: scene, messages: ASK, stream: true,
    });
    async function* texts() {
      for await (const chunk of chunks) yield chunk.choices[0].delta.content ?? "";
    }
    return gathered(texts());
  };
}

async function responses(target) {
  const answer = await clientOf(target, "responses").responses.create({
    model: "responses", input: "Tell me.", instructions: "Be brief.",
  });
  return { text: answer.output_text, tokens: answer.usage.total_tokens, raw: answer };
}

async function responsesStreamed(target) {
  const content = [
    { type: "input_text", text: "What is this?" },
    { type: "input_image", image_url: IMAGE, detail: "low" },
  ];
  const events = clientOf(target, "responses streamed").responses.stream({
    model: "responses streamed", input: [{ role: "user", content }],
  });
  const raw = [];
  for await (const event of events) raw.push(event);
  const deltas = raw.filter((event) => event.type === "response.output_text.delta");
  const text = deltas.map((event) => event.delta).join("");
  const answer = await events.finalResponse();
  return { text, tokens: answer.usage.total_tokens, raw };
}

async function responsesTools(target) {
  const flat = TOOLS.map((one) => ({ type: "function", ...one.function, strict: true }));
  const answer = await clientOf(target, "responses tools").responses.create({
    model: "responses tools", input: "Tell me.", tools: flat,
  });
  const calls = answer.output
    .filter((item) => item.type === "function_call")
    .map((item) => [item.call_id, item.name, JSON.parse(item.arguments)]);
  return { calls, raw: answer };
}

async function embeddings(target) {
  const answer = await clientOf(target, "embeddings").embeddings.create({
    model: "embeddings", input: ["one", "two"],
  });
  return { sizes: answer.data.map((one) => one.embedding.length), raw: answer };
}

async function models(target) {
  const ids = [];
  for await (const model of clientOf(target, "models").models.list()) ids.push(model.id);
  return { ids };
}

async function files(target) {
  const client = clientOf(target, "files");
  const made = await client.files.create({
    file: await toFile(FILE, "ñ.jsonl"), purpose: "batch",
  });
  const back = await client.files.content(made.id);
  return {
    name: made.filename, content: Buffer.from(await back.arrayBuffer()).toString("hex"),
  };
}

await play({
  chat,
  stream,
  tools,
  "tools streamed": toolsStreamed,
  "tool loop": toolLoop,
  structured,
  vision,
  refused,
  "retry 429": retried("retry 429"),
  "retry 500": retried("retry 500"),
  cancel,
  broken: broken("broken"),
  "error inside": broken("error inside"),
  responses,
  "responses streamed": responsesStreamed,
  "responses tools": responsesTools,
  embeddings,
  models,
  files,
});
