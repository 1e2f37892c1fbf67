// The Vercel AI SDK with its provider for APIs that are like OpenAI's.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError, Output, embedMany, generateText, jsonSchema, stepCountIs, streamText, tool,
} from "ai";
import { z } from "zod";
import {
  IMAGE, RESULTS, SYSTEM, USER, gathered, headersOf, left, parametersOf, play, timed,
} from "./playing.mjs";

globalThis.AI_SDK_LOG_WARNINGS = false;
const Weather = z.object({ city: z.string(), degrees: z.number() });

function providerOf(target, scene) {
  return createOpenAICompatible({
    name: "gateway",
    baseURL: target.base_url,
    apiKey: "sk-the-clients-own",
    headers: headersOf(target, scene),
    includeUsage: true,
    supportsStructuredOutputs: true,
  });
}

function asking(target, scene, more = {}) {
  return {
    model: providerOf(target, scene)(scene), system: SYSTEM, prompt: USER, maxRetries: 0, ...more,
  };
}

function toolsOf(execute) {
  const made = (name, argument) =>
    tool({
      description: `The ${name}`,
      inputSchema: jsonSchema(parametersOf(argument)),
      ...(execute ? { execute: async () => RESULTS[name] } : {}),
    });
  return { weather: made("weather", "city"), clock: made("clock", "zone") };
}

// The SDK has spellings of its own for finish reasons.
const finishOf = (reason) => reason.replaceAll("-", "_");

function called(finish, toolCalls) {
  const calls = toolCalls.map((call) => [call.toolCallId, call.toolName, call.input]);
  return { finish: finishOf(finish), calls };
}

async function chat(target) {
  const answer = await generateText(asking(target, "chat", { temperature: 1, seed: 7 }));
  return {
    text: answer.text,
    finish: finishOf(answer.finishReason),
    tokens: answer.usage.totalTokens,
    raw: [answer.usage, answer.response.body],
  };
}

async function stream(target) {
  const answer = streamText(asking(target, "stream"));
  let text = "";
  for await (const piece of answer.textStream) text += piece;
  const usage = await answer.usage;
  return {
    text, finish: finishOf(await answer.finishReason), tokens: usage.totalTokens, raw: usage,
  };
}

async function tools(target) {
  const answer = await generateText(asking(target, "tools", { tools: toolsOf(false) }));
  return { ...called(answer.finishReason, answer.toolCalls), raw: answer.response.body };
}

async function toolsStreamed(target) {
  const answer = streamText(asking(target, "tools streamed", { tools: toolsOf(false) }));
  const toolCalls = await answer.toolCalls;
  return called(await answer.finishReason, toolCalls);
}

async function toolLoop(target) {
  const answer = await generateText(
    asking(target, "tool loop", { tools: toolsOf(true), stopWhen: stepCountIs(4) }),
  );
  return { text: answer.text };
}

async function structured(target) {
  const answer = await generateText(
    asking(target, "structured", { output: Output.object({ schema: Weather }) }),
  );
  return answer.output;
}

async function vision(target) {
  const content = [
    { type: "text", text: "What is this?" },
    { type: "image", image: IMAGE },
  ];
  const answer = await generateText(
    asking(target, "vision", { prompt: undefined, messages: [{ role: "user", content }] }),
  );
  return { text: answer.text, raw: answer.response.body };
}

async function refused(target) {
  try {
    await generateText(asking(target, "refused", { maxRetries: 2 }));
  } catch (error) {
    if (!APICallError.isInstance(error)) throw error;
    const code = JSON.parse(error.responseBody).error.code;
    return { status: error.statusCode, code, raw: [error.message, error.isRetryable] };
  }
}

function retried(scene) {
  return (target) =>
    timed(async () => (await generateText(asking(target, scene, { maxRetries: 2 }))).text);
}

async function cancel(target) {
  const leaving = new AbortController();
  const answer = streamText(asking(target, "cancel", { abortSignal: leaving.signal }));
  let text = "";
  for await (const piece of answer.textStream) {
    text = piece;
    break;
  }
  leaving.abort();
  return { text, left: await left(target) };
}

function broken(scene) {
  return async (target) => {
    const answer = streamText(asking(target, scene, { onError: () => {} }));
    async function* texts() {
      for await (const part of answer.fullStream) {
        if (part.type === "error") throw part.error;
        if (part.type === "text-delta") yield part.text;
      }
    }
    return gathered(texts());
  };
}

async function embeddings(target) {
  const model = providerOf(target, "embeddings").embeddingModel("embeddings");
  const answer = await embedMany({ model, values: ["one", "two"], maxRetries: 0 });
  return { sizes: answer.embeddings.map((one) => one.length), raw: answer.embeddings };
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
  embeddings,
});
