/** Line icons, 16 by 16, in the colour of the text around them. */
import type { ReactNode } from 'react';

function icon(paths: ReactNode) {
  return function Icon({ size = 16 }: { size?: number }) {
    return (
      <svg
        width={size} height={size} viewBox="0 0 16 16" fill="none" stroke="currentColor" strokeWidth="1.5"
        strokeLinecap="round" strokeLinejoin="round" aria-hidden="true" focusable="false"
      >
        {paths}
      </svg>
    );
  };
}

export const SearchIcon = icon(<><circle cx="7" cy="7" r="4.5" /><path d="M10.5 10.5 14 14" /></>);
export const CloseIcon = icon(<path d="m4 4 8 8M12 4l-8 8" />);
export const ChevronIcon = icon(<path d="m4 6 4 4 4-4" />);
export const SunIcon = icon(
  <><circle cx="8" cy="8" r="3" /><path d="M8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M3 13l1-1M12 4l1-1" /></>,
);
export const MoonIcon = icon(<path d="M13.5 9.5A6 6 0 0 1 6.5 2.5a6 6 0 1 0 7 7Z" />);
export const CopyIcon = icon(
  <><rect x="5.5" y="5.5" width="8" height="8" rx="1.5" /><path d="M3.5 10.5h-.5a.5.5 0 0 1-.5-.5V3a.5.5 0 0 1 .5-.5h7a.5.5 0 0 1 .5.5v.5" /></>,
);
export const CheckIcon = icon(<path d="m3 8.5 3.5 3.5L13 4.5" />);
export const PlayIcon = icon(<path d="M4.5 2.5v11l9-5.5-9-5.5Z" fill="currentColor" />);
export const StopIcon = icon(<rect x="3.5" y="3.5" width="9" height="9" rx="1" fill="currentColor" />);
export const AlertIcon = icon(<><path d="M8 2 1.5 13.5h13L8 2Z" /><path d="M8 6.5v3M8 11.6v.1" /></>);
export const ClockIcon = icon(<><circle cx="8" cy="8" r="6" /><path d="M8 4.5V8l2.5 1.5" /></>);
export const TableIcon = icon(
  <><rect x="2" y="2.5" width="12" height="11" rx="1.5" /><path d="M2 6.5h12M6.5 6.5v7" /></>,
);
export const GroupIcon = icon(<><path d="M2 12c3 0 3-8 6-8s3 4 6 4" /><path d="M2 12c4 0 5 1 12-2" /></>);
