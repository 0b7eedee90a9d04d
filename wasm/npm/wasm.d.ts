/** The address of the module, where a bundler gives it. */
declare const url: string;
export default url;
