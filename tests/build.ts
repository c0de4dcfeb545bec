/** Tests that start the real process must not start a stale one. */
export default async function build(): Promise<void> {
  await import("../scripts/prepare.mjs");
}
