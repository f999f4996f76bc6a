// One turn of a voice agent: the answer is cut as if the listener had spoken.
import { Client, RelayError } from "@rtrelay/client";

const address = process.env.RTRELAY_ADDRESS ?? "127.0.0.1:50051";
const client = new Client({ address, model: "fast" });
try {
  const session = client.session();
  const answer = session.start({ prompt: "Tell me a long story about a lighthouse." });
  let heard = "";
  for await (const event of answer) {
    if (event.type === "text") heard += event.text;
    if (heard.length >= 80) {
      void answer.cancel("barge_in"); // this generation and that alone; the loop ends
    }
  }
  const { outcome, usage } = await answer.end;
  console.log(`${heard}\n[${outcome} after ${usage?.completionTokens} tokens]`);
  const question = `You were cut off after: ${heard} How does it end?`;
  for await (const piece of session.start({ prompt: question }).textStream()) {
    process.stdout.write(piece);
  }
  console.log();
} catch (error) {
  if (!(error instanceof RelayError)) throw error;
  console.error(`no answer from the relay at ${address}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await client.close();
}
