/** Of V8; elsewhere it does nothing. */
const settings = Error as unknown as { stackTraceLimit?: number };

/** An error that is an answer, and no fault to be looked for: without a stack, which would be most of what such an answer costs. */
export class ExpectedError extends Error {
  constructor(message: string) {
    const { stackTraceLimit = 10 } = settings;
    settings.stackTraceLimit = 0;
    super(message);
    settings.stackTraceLimit = stackTraceLimit;
  }
}
