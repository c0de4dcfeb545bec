/** Tests that start the real process must not start a stale one. */
export default async function build() {
  await import("../scripts/prepare.mjs");
}
