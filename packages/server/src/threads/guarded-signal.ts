type Listener = (event: Event) => void;

const HANDLER = Object.getOwnPropertyDescriptor(AbortSignal.prototype, "onabort");

/**
 * Keeps what a listener of the signal throws, or rejects with, from being an uncaught exception, for which Node ends the process and all other answers
 * with it: it is told to `onFault`. Not of signals that are made out of this one (`AbortSignal.any`), whose listeners are their maker's.
 */
export function guardListeners(signal: AbortSignal, onFault: (error: unknown) => void): void {
  const guarded = new WeakMap<object, Listener>();
  const guard = (listener: unknown): unknown => {
    if (typeof listener !== "function" && (typeof listener !== "object" || listener === null)) return listener; // Node's to refuse
    const known = guarded.get(listener);
    if (known !== undefined) return known; // so that it can be taken away again, and is not there twice
    const made: Listener = (event) => {
      try {
        const result: unknown =
          typeof listener === "function"
            ? listener.call(signal, event)
            : (listener as { readonly handleEvent: Listener }).handleEvent(event);
        if (result instanceof Promise) result.catch(onFault);
      } catch (thrown) {
        onFault(thrown);
      }
    };
    guarded.set(listener, made);
    return made;
  };
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  let onabort: unknown = null;
  Object.defineProperties(signal, {
    addEventListener: { value: (type: string, listener: unknown, ...rest: never[]) => add(type, guard(listener) as Listener, ...rest) },
    removeEventListener: {
      value: (type: string, listener: unknown, ...rest: never[]) => remove(type, guard(listener) as Listener, ...rest),
    },
    onabort: {
      get: () => onabort,
      set(listener: unknown) {
        onabort = typeof listener === "function" ? listener : null;
        HANDLER?.set?.call(signal, guard(onabort));
      },
    },
  });
}
