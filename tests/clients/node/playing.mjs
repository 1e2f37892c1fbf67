// What the client programs share: they read their targets, play every scene, and print JSON.
// It mirrors programs/playing.py: the same scenes, the same questions, the same headers.

export const IMAGE =
  "data:image/png;base64," +
  Buffer.from(Uint8Array.from({ length: 1024 }, (_, n) => n % 256)).toString("base64");
export const SYSTEM = "You are brief.";
export const USER = "Tell me something.";
export const ASK = [
  { role: "system", content: SYSTEM },
  { role: "user", content: USER },
];
export const RESULTS = { weather: "sunny", clock: "noon" };
export const FILE = Buffer.from(Uint8Array.from({ length: 256 * 40 }, (_, n) => n % 256));

export function parametersOf(argument) {
  return {
    type: "object",
    properties: { [argument]: { type: "string" } },
    required: [argument],
    additionalProperties: false,
  };
}

function tool(name, argument) {
  const description = `The ${name}`;
  return { type: "function", function: { name, description, parameters: parametersOf(argument) } };
}

export const TOOLS = [tool("weather", "city"), tool("clock", "zone")];

export function headersOf(target, scene) {
  const headers = { "X-Run": target.run };
  if (target.user) {
    headers["X-Memory-User"] = target.user.replace("*", scene.replaceAll(" ", "-"));
    headers["X-Memory-Session"] = `${target.run} ${scene}`;
  }
  return headers;
}

// Whether the upstream sees, within a second, that the client is gone.
export async function left(target) {
  const deadline = performance.now() + 1000;
  while (performance.now() < deadline) {
    const answer = await fetch(`${target.base_url}/models/left`, {
      headers: { "X-Run": target.run },
    });
    if ((await answer.json()).left) return true;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return false;
}

// Gather a stream until it ends or breaks.
export async function gathered(pieces) {
  let text = "";
  try {
    for await (const piece of pieces) text += piece;
  } catch {
    return { text, raised: true };
  }
  return { text, raised: false };
}

export async function timed(asking) {
  const began = performance.now();
  const text = await asking();
  return { text, waited_s: (performance.now() - began) / 1000 };
}

export async function play(scenes) {
  const results = {};
  for (const target of JSON.parse(process.argv[2])) {
    const played = (results[target.run] = {});
    for (const [name, scene] of Object.entries(scenes)) {
      try {
        played[name] = await scene(target);
      } catch (error) {
        played[name] = { unexpected: String(error?.stack ?? error) };
      }
    }
  }
  console.log(JSON.stringify(results));
}
