export * from './index.js';

/** Says where the module is: a URL, a response, bytes or a compiled module. To be called before a log is opened. */
export function useWasm(source: URL | string | Response | BufferSource | WebAssembly.Module | Promise<Response>): void;
